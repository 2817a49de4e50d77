"""Gate requests and content offers of actions, shared by decisions, simulations and previews."""

from collections.abc import Sequence

from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import ContentChoice, ContentItem, choose_content
from services.orchestrator.domain.gate import GateRequest, Purpose


def offer_content(
    action: ActionSpec, items: Sequence[ContentItem], facts: ContactFacts
) -> ContentChoice:
    """Return the content choice of an action; empty if the action requests no content."""
    request = action.content
    if request is None:
        return ContentChoice(None, [])
    return choose_content(
        items,
        facts,
        action.channel,
        request.types,
        request.fallback,
        override=request.override_gate,
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
    """Return the gate request of an action.

    `used` are the contact's messages (today, this week) on the channel; `address` is the
    destination of a message that does not go to the contact. Messages to colleagues need no
    consent of the contact and count against no cap; adding a contact to an ad audience needs
    consent.
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
