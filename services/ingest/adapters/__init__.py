"""What others send, in their shapes, turned into calls of the tracking API. Each adapter is one module.

An adapter splits a request into events, and makes calls of each; it may check a signature first. It reads and says what it
found: what a call means, and whether it is one at all, is the door's business. An event that it cannot read is refused with a
reason, and kept.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from libs.common.errors import InvalidMessage

Call = dict[str, Any]
Settings = Mapping[str, Any]
"""What a source says for its adapter: a mapping, whose changes are our own."""


class WebhookRequest(msgspec.Struct, frozen=True):
    """A request as it came. `headers` have lower-case names; `url` is the whole address, as the sender signs it."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def _whole(document: Any, _settings: Settings) -> list[Any]:
    return document if isinstance(document, list) else [document]


class Adapter(msgspec.Struct, frozen=True):
    """`check` raises InvalidWebhookSignature; `events` splits a request's JSON; `calls` raises InvalidMessage for what it cannot read."""

    to_calls: Callable[[Any, Settings], list[Call]]
    split_events: Callable[[Any, Settings], list[Any]] = _whole
    verify_signature: Callable[[WebhookRequest, Any, str, int], None] | None = None
    """(request, its JSON, the source's signing secret, now in microseconds)."""
    validate_settings: Callable[[Settings], None] | None = None
    """Raises ConfigurationError for settings that it cannot work with."""


def require(event: Any, *names: str) -> Any:
    """Return what stands below these names. Raises InvalidMessage when it is not there."""
    found = event
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    if found is None or found == "":
        raise InvalidMessage("bad_event", f"the event has no {'.'.join(names)}")
    return found


def require_text(event: Any, *names: str) -> str:
    """Return the text, or the number as text, that stands below these names. Raises InvalidMessage when there is none."""
    found = optional_text(event, *names)
    if not found:
        raise InvalidMessage("bad_event", f"the event has no text {'.'.join(names)}")
    return found


def optional_text(event: Any, *names: str) -> str:
    """Return what stands below these names as text; the empty text where nothing does."""
    found = event
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) else ""


def unknown_event(kind: Any, known: Mapping[str, Any]) -> InvalidMessage:
    """Return the refusal of a kind of event that an adapter does not know."""
    return InvalidMessage("unknown_event", f"{kind!r:.60}: known are {', '.join(known)}")


def format_seconds(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339. Raises InvalidMessage."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        raise InvalidMessage("bad_event", f"{seconds!r:.60} is no time") from None
