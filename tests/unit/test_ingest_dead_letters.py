"""Messages that ingest refuses: kept as dead letters, with the defaults of their batch."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidMessage
from services.ingest.domain import json_body
from services.ingest.domain.request_context import BatchDefaults, RequestContext
from services.ingest.domain.source import Source
from services.ingest.handlers.outgoing_messages import dead_letter_message, parse_batch_defaults
from tests.support.tracking_fakes import NOW, TRACK


async def test_bad_message_becomes_a_dead_letter(client, publisher):
    batch = {
        "batch": [
            {"type": "track", **TRACK},
            {"type": "track"},
            3,
            {"type": "page", "anonymousId": "a"},
        ]
    }
    assert (await client.post("/v1/batch", json=batch)).status_code == 200
    assert [m.topic for m in publisher.kept].count("touchpoints") == 2
    dead = [m for m in publisher.kept if m.topic == "touchpoints-dlq"]

    assert [dict(m.headers)["x-dlq-reason"] for m in dead] == [b"no_ids", b"not_an_object"]
    assert json.loads(dead[0].value) == {"type": "track"}


async def test_record_refused_by_broker_becomes_a_dead_letter(client, publisher):
    publisher.fault = InvalidMessage("refused_by_broker", "too large")
    assert (await client.post("/v1/track", json=TRACK)).status_code == 200
    (dead,) = publisher.kept

    assert dead.topic == "touchpoints-dlq"


async def test_dead_letters_repeat_bounded_batch_context(client, publisher):
    batch = {"batch": [1] * 5_000, "context": {"a": "x" * 3_000}}

    assert (await client.post("/v1/batch", json=batch)).status_code == 200
    assert len(publisher.kept) == 5_000
    assert sum(len(value) for m in publisher.kept for _, value in m.headers) < 4_000_000


@given(
    st.text('"\\\\ipu{}:,x'), st.sampled_from(["ip", "IP", "ipAddress", "linkToken", "writeKey"])
)
def test_removed_fields_leave_valid_json(value, name):
    said = {"a": value, name: value, "b": {name: "203.0.113.77"}, "c": [{"d": value}]}
    raw = json.dumps(said).encode()
    received = RequestContext(
        Source("default", "web"), NOW, lambda: "id", batch_defaults=BatchDefaults("now", raw)
    )

    letter = dead_letter_message(raw, InvalidMessage("no_ids", ""), received)

    for kept in (
        json.loads(letter.value),
        json.loads(dict(letter.headers)["x-dlq-batch"])["context"],
    ):
        assert (kept["a"], kept[name], kept["b"]) == (value, None, {name: None})


async def test_dead_letter_without_defaults_is_marked(client, publisher, monkeypatch):
    monkeypatch.setattr("services.ingest.handlers.message_reader.REPEATED_BYTES", 50)
    await client.post(
        "/v1/batch",
        json={"batch": [{"type": "track"}] * 3, "context": {"library": {"name": "x" * 40}}},
    )

    found = [dict(m.headers) for m in publisher.kept]

    assert [("x-dlq-batch" in one, one["x-dlq-lacks"]) for one in found] == [
        (True, b""),
        (False, b"context"),
        (False, b"context"),
    ]


@pytest.mark.parametrize("levels", [1, json_body.MAX_DEPTH])
def test_stored_batch_defaults_round_trip(levels):
    said = BatchDefaults("2026-05-28T20:26:41Z", b'{"a":' * levels + b"1" + b"}" * levels)
    received = RequestContext(Source("default", "web"), NOW, lambda: "id", batch_defaults=said)
    letter = dead_letter_message(b"{}", InvalidMessage("no_ids", ""), received)
    assert parse_batch_defaults(dict(letter.headers)["x-dlq-batch"].decode()) == said
    assert parse_batch_defaults("") == parse_batch_defaults('{"sentAt":5}') == BatchDefaults()

    with pytest.raises(InvalidMessage):
        parse_batch_defaults("[1]")
