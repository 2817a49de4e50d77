"""What the CRM adapters share: a person by the CRM's own id, a deal told for each of its people, echoes of our own changes.

What we write into a CRM comes back as its change. It is told by the mark that our texts end with, by who made it (the id of our
integration) or by the field (ours begin with `perigee_`); it is kept as a test touchpoint, which is seen and never scored.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from services.ingest.adapters import Call, Settings

OWN_FIELD_PREFIX = "perigee_"
_MARK = re.compile(r"\[perigee:[\w-]{1,80}\]\s*$")


def is_echo(settings: Settings, author: str, fields: Sequence[str] = (), text: str = "") -> bool:
    """Return whether a change is our own: made by our integration, of our fields alone, or with a text that we wrote."""
    own = str(settings.get("integration", ""))
    ours = fields and all(name.lower().startswith(OWN_FIELD_PREFIX) for name in fields)
    return bool((own and author == own) or ours or _MARK.search(text))


class CrmChange(msgspec.Struct, frozen=True):
    """What is known of any change: in which CRM, which one, when, of whose account, and whether it is an echo."""

    system: str
    change_id: str
    occurred_at: str
    account_id: str = ""
    is_echo: bool = False


def contact_call(change: CrmChange, record: str, traits: dict[str, Any]) -> Call:
    """Return the identify call of a contact's fields."""
    return _told(change, record, {"type": "identify", "traits": traits}, {})


def activity_calls(
    change: CrmChange,
    event: str,
    people: Sequence[str],
    properties: dict[str, Any],
    *,
    initiative: str = "brand",
) -> list[Call]:
    """Return a call for each person of a deal, a call or a meeting; for the account alone where it has none."""
    said = {name: value for name, value in properties.items() if value not in (None, "")}
    call = {"type": "track", "event": event, "properties": said}
    return [
        _told(change, one, call, {"channel": "sales", "initiative": initiative})
        for one in people or [""]
    ]


def _told(change: CrmChange, record: str, call: Call, context: dict[str, Any]) -> Call:
    if record:
        context = {**context, "externalIds": [{"type": change.system, "id": record}]}
    if change.account_id:
        context = {**context, "groupId": f"{change.system}:{change.account_id}"}
    if change.is_echo:
        context = {**context, "echo": True, "mode": "test"}
    number = f"{change.system}:{change.change_id}:{record}".removesuffix(":")
    return {**call, "messageId": number, "timestamp": change.occurred_at, "context": context}
