"""Webhooks of any JSON, translated by the mapping in the source's settings.

Every rule whose `when` matches an event makes a call of it; a list in `when` matches each of its
values. Without `each` the document is one event. An event that no rule matches is refused and kept
as a dead letter; with `otherwise: ignore` it is dropped. Without a `messageId`, events of equal
content count as one event. An example:

    each: events
    calls:
      - when: {type: invoice.paid, data.live: true}
        call:
          type: track
          event: Order Completed
          messageId: {path: id}
          userId: {path: data.customer}
    otherwise: refuse
"""

import json
from typing import Any

from libs.common import ids
from libs.common.errors import ConfigurationError, InvalidMessage
from services.ingest.adapters import Adapter, Call, Settings
from services.ingest.domain.call_mapping import CallMapping
from services.ingest.domain.json_path import get_at, parse_path

_KEYS = frozenset(("each", "calls", "otherwise"))


def validate_settings(settings: Settings) -> None:
    """Raise ConfigurationError that names the fault of the mapping."""
    unknown = sorted(set(settings) - _KEYS)
    if unknown:
        raise ConfigurationError(
            f"mapping: {', '.join(unknown)} is not known; there are {', '.join(sorted(_KEYS))}"
        )
    parse_path(settings.get("each", ""), "mapping.each")
    if settings.get("otherwise", "refuse") not in ("refuse", "ignore"):
        raise ConfigurationError("mapping.otherwise: refuse or ignore")
    rules = settings.get("calls")
    if not isinstance(rules, list) or not rules:
        raise ConfigurationError("mapping.calls: a list of {when, call} is needed")
    for number, rule in enumerate(rules):
        where = f"mapping.calls[{number}]"
        if (
            not isinstance(rule, dict)
            or set(rule) - {"when", "call"}
            or not isinstance(rule.get("when", {}), dict)
        ):
            raise ConfigurationError(
                f"{where}: an object with call, and when if it is not for all events"
            )
        for path in rule.get("when", {}):
            parse_path(path, f"{where}.when")
        CallMapping(rule.get("call"), f"{where}.call")


def split_events(document: Any, settings: Settings) -> list[Any]:
    """Return the events of a document. Raises InvalidMessage without a list at `each`."""
    events = get_at(parse_path(settings.get("each", "")), document)
    if "each" in settings and not isinstance(events, list):
        raise InvalidMessage("bad_shape", f"there is no list at {settings['each']!r}")
    return events if isinstance(events, list) else [events]


def to_calls(event: Any, settings: Settings) -> list[Call]:
    """Return the calls of all rules that match the event."""
    calls = [
        _with_message_id(CallMapping(rule["call"]).to_call(event), event, number)
        for number, rule in enumerate(settings["calls"])
        if all(
            _matches(get_at(parse_path(path), event), expected)
            for path, expected in rule.get("when", {}).items()
        )
    ]
    if not calls and settings.get("otherwise", "refuse") == "refuse":
        raise InvalidMessage("no_rule", "no call of the mapping matches this event")
    return calls


def _with_message_id(call: Call, event: Any, number: int) -> Call:
    """Return the call with a message id: the mapping's, else derived from the event's content.

    A retry of the sender then has the same id. `number` is the rule's, so that rules do not clash.
    """
    message_id = call.get("messageId") or ids.derive_id(
        "webhook", json.dumps(event, sort_keys=True, default=str)
    )
    return {**call, "messageId": f"{message_id}:{number}" if number else message_id}


def _matches(value: Any, expected: Any) -> bool:
    return value in expected if isinstance(expected, list) else bool(value == expected)


ADAPTER = Adapter(to_calls, split_events, validate_settings=validate_settings)
