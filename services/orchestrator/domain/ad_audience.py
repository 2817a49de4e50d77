"""Ad audiences: contacts that are added to or removed from an advertiser's list.

Membership is evaluated when the message is sent, not when the step is reached: a contact that no
longer matches is not added, and a contact that was never added is not removed. Addresses are sent
in the form that advertisers use: SHA-256 of the trimmed address in lower case.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from services.orchestrator.domain.action_spec import AdAudience
from services.orchestrator.domain.condition_evaluator import ConditionTest, condition_holds
from services.orchestrator.domain.contact_facts import ContactFacts


def hash_email(address: object) -> str:
    """Return the hash of an e-mail address, an empty string if there is none."""
    return (
        sha256(address.strip().lower().encode("utf-8", "replace")).hexdigest()
        if isinstance(address, str) and address
        else ""
    )


def audience_fault(
    audience: AdAudience,
    member: ConditionTest | None,
    facts: ContactFacts,
    now: int,
    *,
    added: bool,
) -> str:
    """Return the reason against sending, or an empty string.

    `added` is whether this enrollment has added the contact before.
    """
    if audience.op == "remove":
        return "" if added else "never added"
    if not facts.email:
        return "no_address"
    return "" if member is None or condition_holds(member, facts, now) else "belongs no more"


def audience_member_data(
    audience: AdAudience, facts: ContactFacts, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the data of a contact for the advertiser.

    `before` is the data with which the contact was added; a removal repeats it.
    """
    member = before or {"contact_id": facts.contact_id, "email_sha256": hash_email(facts.email)}
    return {**member, "audience": audience.name, "op": audience.op}
