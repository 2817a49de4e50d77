"""Audiences of an advertiser: who is added, who is taken out again, and what is told of them.

Whether somebody still belongs is asked when the message goes out, not when the step came: who has returned meanwhile is not
added, and who was never added is not taken out. Addresses are told as advertisers want them: SHA-256, trimmed and in lower case.
"""

from hashlib import sha256
from typing import Any

from services.orchestrator.domain.action import Action, Audience
from services.orchestrator.domain.condition import Test, holds
from services.orchestrator.domain.facts import Facts


def email_sha256(facts: Facts) -> str:
    """Return the hash of a contact's address; the empty text without one."""
    address = facts.email.strip().lower().encode() if facts.email else None
    return sha256(address).hexdigest() if address else ""


def unfit(audience: Audience, member: Test | None, facts: Facts, now: int, *, added: bool) -> str:
    """Return why nothing is told, or nothing. `added` says whether this run has tried to add the contact."""
    if audience.op == "remove":
        return "" if added else "never added"
    if not (facts.email or facts.user_id or facts.external_ids):
        return "no_identifier"
    return "" if member is None or holds(member, facts, now) else "belongs no more"


def told(action: Action, audience: Audience, facts: Facts) -> dict[str, Any]:
    """Return what the advertiser is told of a contact."""
    return {
        "audience": audience.name,
        "op": audience.op,
        "contact_id": facts.contact_id,
        "user_id": facts.user_id,
        "external_ids": dict(facts.external_ids),
        "email_sha256": email_sha256(facts),
        "step": action.action,
    }
