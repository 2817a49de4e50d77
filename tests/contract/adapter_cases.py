"""Golden requests of `hooks/`: each file has one request and the calls that its adapter returns."""

import json
from pathlib import Path
from typing import Any

from libs.common.ids import WorkspaceId
from libs.common.messages import Touchpoint, decode_value
from services.ingest.adapters.registry import ADAPTERS
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object
from services.ingest.handlers.outgoing_messages import touchpoint_message
from services.ingest.settings import CHANNELS
from tests.support.encoding_paths import touchpoint_of_call

HOOKS = Path(__file__).parent / "hooks"
CASE_FILES = sorted(HOOKS.glob("*.json"))
CHANNEL_RULES = parse_channel_rules(CHANNELS.read_text(), "channels.yaml")
GENERATED_ID = "generated"
"""The message id of a call without one."""
NOW = 1_790_000_000_000_000


def load_case(name: str) -> dict[str, Any]:
    """Return a golden case: adapter, settings, request and expected calls."""
    case: dict[str, Any] = json.loads((HOOKS / f"{name}.json").read_text())
    return case


def calls_of_case(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the calls that the case's adapter makes of its request."""
    adapter = ADAPTERS[case["adapter"]]
    if adapter.validate_settings is not None:
        adapter.validate_settings(case["settings"])
    events = adapter.split_events(case["request"], case["settings"])
    return [call for event in events for call in adapter.to_calls(event, case["settings"])]


def touchpoint_of_adapter_call(call: dict[str, Any], adapter: str = "x") -> Touchpoint:
    """Return the touchpoint of a call from a server source; check that it survives encoding."""
    context = RequestContext(
        Source(WorkspaceId("default"), adapter, trust="server"),
        NOW,
        lambda: GENERATED_ID,
        rules=NormalisationRules(CHANNEL_RULES),
    )
    touchpoint = touchpoint_of_call(call_from_object(call), context)
    assert decode_value(Touchpoint, touchpoint_message(touchpoint).value) == touchpoint
    return touchpoint


def touchpoints_of_case(name: str) -> list[Touchpoint]:
    """Return the touchpoints of a golden case."""
    case = load_case(name)
    return [touchpoint_of_adapter_call(call, case["adapter"]) for call in calls_of_case(case)]
