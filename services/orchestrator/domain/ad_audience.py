"""Audiences of an advertiser: who is added, who is taken out again, and what is told of them.

Whether somebody still belongs is asked when the message goes out, not when the step came: who has returned meanwhile is not
added, and who was never added is not taken out. Addresses are told as advertisers want them: SHA-256, trimmed and in lower case.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from services.orchestrator.domain.action import AdAudience
from services.orchestrator.domain.condition_evaluator import ConditionTest, condition_holds
from services.orchestrator.domain.contact_facts import ContactFacts


def hash_email(address: object) -> str:
    """Return the hash of an address; the empty text for what is none."""
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
    """Return why nothing is told, or nothing. `added` says whether this run has told of the contact."""
    if audience.op == "remove":
        return "" if added else "never added"
    if not facts.email:
        return "no_address"
    return "" if member is None or condition_holds(member, facts, now) else "belongs no more"


def audience_member_data(
    audience: AdAudience, facts: ContactFacts, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what the advertiser is told of a contact; of one of whom it was told, what it knows them by (`before`)."""
    who = before or {"contact_id": facts.contact_id, "email_sha256": hash_email(facts.email)}
    return {**who, "audience": audience.name, "op": audience.op}
