"""Calls of the CRM adapters: contacts by the CRM's own ids, activities, echoes of our own changes.

A change that Perigee writes into a CRM comes back as an event of the CRM. Such an echo is
recognised by the mark at the end of our texts, by its author (the id of our integration) or by its
fields (ours begin with `perigee_`). It is stored as a test touchpoint, which is never scored.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from services.ingest.adapters import Call, Settings

OWN_FIELD_PREFIX = "perigee_"
_ECHO_MARK = re.compile(r"\[perigee:[\w-]{1,80}\]\s*$")


def is_echo(settings: Settings, author: str, fields: Sequence[str] = (), text: str = "") -> bool:
    """Return whether Perigee made a change: our integration, only our fields, or our text."""
    integration = str(settings.get("integration", ""))
    has_own_fields = fields and all(name.lower().startswith(OWN_FIELD_PREFIX) for name in fields)
    return bool(
        (integration and author == integration) or has_own_fields or _ECHO_MARK.search(text)
    )


class CrmChange(msgspec.Struct, frozen=True):
    """A change in a CRM; `occurred_at` is RFC 3339, ids are the CRM's."""

    system: str
    change_id: str
    occurred_at: str
    account_id: str = ""
    is_echo: bool = False


def contact_call(change: CrmChange, record_id: str, traits: dict[str, Any]) -> Call:
    """Return the identify call of a contact's fields."""
    return _complete_call(change, record_id, {"type": "identify", "traits": traits}, {})


def activity_calls(
    change: CrmChange,
    event: str,
    contact_ids: Sequence[str],
    properties: dict[str, Any],
    *,
    initiative: str = "brand",
) -> list[Call]:
    """Return a call for each contact of a deal, a call or a meeting.

    Without contacts there is one call for the account alone.
    """
    present = {name: value for name, value in properties.items() if value not in (None, "")}
    call = {"type": "track", "event": event, "properties": present}
    context = {"channel": "sales", "initiative": initiative}
    return [_complete_call(change, contact_id, call, context) for contact_id in contact_ids or [""]]


def _complete_call(change: CrmChange, record_id: str, call: Call, context: dict[str, Any]) -> Call:
    """Return the call with its id, its time, its contact and its account."""
    if record_id:
        context = {**context, "externalIds": [{"type": change.system, "id": record_id}]}
    if change.account_id:
        context = {**context, "groupId": f"{change.system}:{change.account_id}"}
    if change.is_echo:
        context = {**context, "echo": True, "mode": "test"}
    message_id = f"{change.system}:{change.change_id}:{record_id}".removesuffix(":")
    return {**call, "messageId": message_id, "timestamp": change.occurred_at, "context": context}
