"""Any JSON, by a mapping that the source brings along. Without a `messageId` equal events are one event.

Every rule whose `when` fits an event makes a call of it; a list in `when` means one of its values. The whole document is one
event without `each`; `otherwise: ignore` lets go what no rule is for, which is refused and kept else. An example:

    each: events
    calls:
      - when: {type: invoice.paid, data.live: true}
        call: {type: track, event: Order Completed, messageId: {path: id}, userId: {path: data.customer}}
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
    """Raise ConfigurationError naming what is wrong in the mapping."""
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
        for place in rule.get("when", {}):
            parse_path(place, f"{where}.when")
        CallMapping(rule.get("call"), f"{where}.call")


def split_events(document: Any, settings: Settings) -> list[Any]:
    """Return the events of a document. Raises InvalidMessage when they are not where the mapping says."""
    found = get_at(parse_path(settings.get("each", "")), document)
    if "each" in settings and not isinstance(found, list):
        raise InvalidMessage("bad_shape", f"there is no list at {settings['each']!r}")
    return found if isinstance(found, list) else [found]


def to_calls(event: Any, settings: Settings) -> list[Call]:
    """Return the calls of all rules that are for the event."""
    found = [
        _named(CallMapping(rule["call"]).to_call(event), event, number)
        for number, rule in enumerate(settings["calls"])
        if all(
            _fits(get_at(parse_path(place), event), wanted)
            for place, wanted in rule.get("when", {}).items()
        )
    ]
    if not found and settings.get("otherwise", "refuse") == "refuse":
        raise InvalidMessage("no_rule", "no call of the mapping is for this event")
    return found


def _named(call: Call, event: Any, number: int) -> Call:
    """Return the call with an id of its own: the mapping's, or one of the event's content, so that a retry is known."""
    named = call.get("messageId") or ids.derive_id(
        "webhook", json.dumps(event, sort_keys=True, default=str)
    )
    return {**call, "messageId": f"{named}:{number}" if number else named}


def _fits(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list) else bool(value == wanted)


ADAPTER = Adapter(to_calls, split_events, validate_settings=validate_settings)
