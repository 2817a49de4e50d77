"""Audiences of an advertiser: who is added, who is taken out again, and what is told of them.

Whether somebody still belongs is asked when the message goes out, not when the step came: who has returned meanwhile is not
added, and who was never added is not taken out. Addresses are told as advertisers want them: SHA-256, trimmed and in lower case.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from services.orchestrator.domain.action import Audience
from services.orchestrator.domain.condition import Test, holds
from services.orchestrator.domain.facts import Facts


def email_sha256(address: object) -> str:
    """Return the hash of an address; the empty text for what is none."""
    return (
        sha256(address.strip().lower().encode("utf-8", "replace")).hexdigest()
        if isinstance(address, str) and address
        else ""
    )


def unfit(audience: Audience, member: Test | None, facts: Facts, now: int, *, added: bool) -> str:
    """Return why nothing is told, or nothing. `added` says whether this run has told of the contact."""
    if audience.op == "remove":
        return "" if added else "never added"
    if not facts.email:
        return "no_address"
    return "" if member is None or holds(member, facts, now) else "belongs no more"


def told(audience: Audience, facts: Facts, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the advertiser is told of a contact; of one of whom it was told, what it knows them by (`before`)."""
    who = before or {"contact_id": facts.contact_id, "email_sha256": email_sha256(facts.email)}
    return {**who, "audience": audience.name, "op": audience.op}
