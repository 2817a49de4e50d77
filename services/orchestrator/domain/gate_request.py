"""What an action asks of the gate, and what it offers: the same for a live decision, a simulation and a preview."""

from collections.abc import Sequence

from services.orchestrator.domain.action import ActionSpec
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import ContentChoice, ContentItem, choose_content
from services.orchestrator.domain.gate import GateRequest, Purpose


def offer_content(
    action: ActionSpec, items: Sequence[ContentItem], facts: ContactFacts
) -> ContentChoice:
    """Return the content that an action offers a contact; one that wants none offers none."""
    wanted = action.content
    if wanted is None:
        return ContentChoice(None, [])
    return choose_content(
        items, facts, action.channel, wanted.types, wanted.fallback, override=wanted.override_gate
    )


def build_gate_request(
    action: ActionSpec,
    facts: ContactFacts,
    address: str | None,
    used: tuple[int, int],
    *,
    stopped: str = "",
    unfit: str = "",
) -> GateRequest:
    """Return what an action asks of the gate; `used` is what the contact was sent (today, this week) on its channel.

    `address` is where it goes if not to the contact. What goes to colleagues needs no consent of the contact's and counts
    against no cap; to be added to an audience needs consent.
    """
    to_contact = action.channel == "email"
    return GateRequest(
        _purpose(action),
        facts.email if to_contact else address,
        facts.consents.get("marketing"),
        facts.suppressed.get(action.channel) or facts.suppressed.get("*"),
        *used,
        facts.time_zone,
        stopped,
        unfit,
    )


def _purpose(action: ActionSpec) -> Purpose:
    if action.channel == "email":
        return action.purpose
    return (
        "retargeting"
        if action.audience is not None and action.audience.op == "add"
        else "transactional"
    )
