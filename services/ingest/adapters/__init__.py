"""Adapters turn webhooks of other systems into calls of the tracking API; one module each.

An adapter splits a request into events and makes calls of each; it may verify a signature first.
It translates only: normalisation validates the calls. An event that an adapter cannot read is
refused with a reason and kept as a dead letter.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from libs.common.errors import InvalidMessage

Call = dict[str, Any]
Settings = Mapping[str, Any]
"""Adapter settings of a source: the mapping of a webhook, the id of our integration in a CRM."""


class WebhookRequest(msgspec.Struct, frozen=True):
    """A request as received; header names in lower case.

    `url` is the complete address, as the sender signs it.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes


def _as_list(document: Any, _settings: Settings) -> list[Any]:
    return document if isinstance(document, list) else [document]


class Adapter(msgspec.Struct, frozen=True):
    """Translation of one system's webhooks into tracking calls."""

    to_calls: Callable[[Any, Settings], list[Call]]
    """(event, settings) → calls. Raises InvalidMessage for an unreadable event."""
    split_events: Callable[[Any, Settings], list[Any]] = _as_list
    """(the request's JSON, settings) → events."""
    verify_signature: Callable[[WebhookRequest, Any, str, int], None] | None = None
    """(request, its JSON, the source's signing secret, now in microseconds UTC).

    Raises InvalidWebhookSignature.
    """
    validate_settings: Callable[[Settings], None] | None = None
    """Raises ConfigurationError for invalid settings."""


def require(event: Any, *names: str) -> Any:
    """Return the value at the path `names`. Raises InvalidMessage when it is missing or empty."""
    value = _value_at(event, names)
    if value is None or value == "":
        raise InvalidMessage("bad_event", f"the event has no {'.'.join(names)}")
    return value


def require_text(event: Any, *names: str) -> str:
    """Return the text, or the number as text, at the path `names`.

    Raises InvalidMessage when it is missing or empty.
    """
    text = optional_text(event, *names)
    if not text:
        raise InvalidMessage("bad_event", f"the event has no text {'.'.join(names)}")
    return text


def optional_text(event: Any, *names: str) -> str:
    """Return the text, or the number as text, at the path `names`; empty when there is none."""
    value = _value_at(event, names)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _value_at(event: Any, names: tuple[str, ...]) -> Any:
    value = event
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def unknown_event(kind: Any, supported: Mapping[str, Any]) -> InvalidMessage:
    """Return the refusal of a kind of event that an adapter does not support."""
    return InvalidMessage("unknown_event", f"{kind!r:.60}: supported are {', '.join(supported)}")


def format_seconds(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339. Raises InvalidMessage."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        raise InvalidMessage("bad_event", f"{seconds!r:.60} is no time") from None
