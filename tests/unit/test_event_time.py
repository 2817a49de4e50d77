"""Instants of tracking calls: the sender's clock is corrected by `sentAt`."""

import json

import pytest

from services.ingest.domain.message_batch import parse_batch
from services.ingest.domain.normalise import normalise
from services.ingest.domain.request_context import BatchDefaults, RequestContext
from services.ingest.domain.tracking_call import parse_call
from tests.unit.test_normalise import NOW, PUBLIC, got


@pytest.mark.parametrize(
    ("fields", "occurred", "corrected"),
    [
        ({}, NOW, False),
        ({"timestamp": "2026-05-28T20:26:30Z"}, NOW - 10_000_000, False),
        ({"originalTimestamp": "2026-05-28T20:26:30Z"}, NOW - 10_000_000, False),
        ({"timestamp": "2026-05-28T22:26:30+02:00"}, NOW - 10_000_000, False),
        ({"timestamp": "2026-05-28T20:26:30"}, NOW - 10_000_000, False),
        # The sender's clock is an hour fast: sentAt says so.
        (
            {"timestamp": "2026-05-28T21:26:30Z", "sentAt": "2026-05-28T21:26:40Z"},
            NOW - 10_000_000,
            False,
        ),
        ({"timestamp": "2027-01-01T00:00:00Z"}, NOW, True),
    ],
)
def test_event_time_rule(fields, occurred, corrected):
    touchpoint = got({"type": "page", "userId": "u", **fields})

    assert (touchpoint.occurred_at, touchpoint.clock_corrected) == (occurred, corrected)


def test_corrected_time_keeps_the_original():
    touchpoint = got({"type": "page", "userId": "u", "timestamp": "2027-01-01T00:00:00Z"})

    assert touchpoint.original_timestamp is not None
    assert touchpoint.original_timestamp > NOW


def test_batch_sent_at_is_the_default():
    message = {"type": "page", "userId": "u", "timestamp": "2026-05-28T21:26:30Z"}

    assert (
        got(message, batch_defaults=BatchDefaults("2026-05-28T21:26:40Z")).occurred_at
        == NOW - 10_000_000
    )


@pytest.mark.parametrize("sent_at", ["garbled", 1780000000000, [], True])
def test_unreadable_sent_at_is_ignored(sent_at):
    message = {"type": "page", "userId": "u", "timestamp": "2026-05-28T20:26:30Z"}
    assert got({**message, "sentAt": sent_at}).sent_at is None
    batch = parse_batch(json.dumps({"batch": [message], "sentAt": sent_at}).encode(), is_batch=True)

    assert (
        normalise(parse_call(batch.messages[0]), RequestContext(PUBLIC, NOW, str)).occurred_at
        == NOW - 10_000_000
    )
    assert got(message, batch_defaults=BatchDefaults("garbled")).occurred_at == NOW - 10_000_000
