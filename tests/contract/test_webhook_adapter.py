"""The configurable `webhook` adapter: validation of its mapping, and the calls that it makes."""

import pytest

from libs.common.errors import ConfigurationError, InvalidMessage
from services.ingest.adapters.registry import ADAPTERS

WEBHOOK = ADAPTERS["webhook"]
CALL = {"call": {"type": "track"}}


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "mapping.calls"),
        ({"calls": []}, "mapping.calls"),
        ({"calls": [CALL], "every": "x"}, "every is not known"),
        ({"calls": [CALL], "each": "a..b"}, "mapping.each"),
        ({"calls": [CALL], "otherwise": "drop"}, "mapping.otherwise"),
        ({"calls": [CALL, {"call": 3}]}, "mapping.calls[1].call"),
        ({"calls": [{**CALL, "if": {}}]}, "mapping.calls[0]"),
        ({"calls": [{**CALL, "when": {"a[x]": 1}}]}, "mapping.calls[0].when"),
        ({"calls": [{"call": {"userId": {"path": "a["}}}]}, "mapping.calls[0].call.userId.path"),
    ],
)
def test_invalid_mapping_error_names_path(settings, path):
    with pytest.raises(ConfigurationError) as error:
        WEBHOOK.validate_settings(settings)

    assert path in str(error.value)


def test_unmatched_event_is_refused_unless_ignored():
    settings = {"calls": [{"when": {"type": "a"}, **CALL}]}

    with pytest.raises(InvalidMessage, match="no call"):
        WEBHOOK.to_calls({"type": "b"}, settings)

    assert WEBHOOK.to_calls({"type": "b"}, {**settings, "otherwise": "ignore"}) == []
    with pytest.raises(InvalidMessage, match="no list"):
        WEBHOOK.split_events({"events": {}}, {**settings, "each": "events"})


def test_calls_of_one_event_have_stable_distinct_ids():
    user, message_id = {"path": "u"}, {"path": "id"}
    settings = {
        "calls": [
            {"call": {"type": "identify", "userId": user, "messageId": message_id}},
            {"call": {"type": "track", "event": "Paid", "userId": user, "messageId": message_id}},
            {"call": {"type": "track", "event": "Seen", "userId": user}},
        ]
    }
    event = {"u": "ada", "id": "e-1"}

    calls = WEBHOOK.to_calls(event, settings)

    assert calls == WEBHOOK.to_calls(event, settings), "a retried request has the same ids"
    ids = [call["messageId"] for call in calls]
    assert ids[:2] == ["e-1", "e-1:1"]
    assert len(set(ids)) == 3
