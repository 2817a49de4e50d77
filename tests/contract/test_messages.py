"""The messages: golden bytes, committed schemas, and both ends of each topic."""

import json
from typing import Any

import msgspec
import pytest

from libs.common.errors import InvalidMessage
from libs.common.messages import MODELS, Touchpoint, build_message, decode_value, event_type_of
from libs.common.messages.json_schemas import FOLDER, build_schemas, find_incompatibilities
from libs.common.topics import TOPICS
from tests.contract.golden import EXAMPLES


def kind_name(example: Any) -> str:
    return str(type(example).KIND)


GOLDEN = FOLDER.parent / "examples"
BY_KIND = {kind_name(example): example for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).KIND)
def test_the_bytes_are_those_that_were_promised(example):
    path = GOLDEN / f"{type(example).KIND}.json"
    assert json.loads(path.read_bytes()) == json.loads(msgspec.json.encode(example))
    assert decode_value(type(example), path.read_bytes()) == example


@pytest.mark.parametrize("path", sorted((GOLDEN / "earlier").glob("*.json")), ids=lambda p: p.stem)
def test_what_earlier_releases_sent_is_still_read(path):
    kind = path.stem.rpartition(".")[0]
    read = decode_value(type(BY_KIND[kind]), path.read_bytes())
    assert msgspec.to_builtins(read).items() >= json.loads(path.read_bytes()).items()


def test_every_model_has_an_example_a_schema_and_a_topic():
    kinds = {model.KIND for model in MODELS}
    assert kinds == BY_KIND.keys() == {path.stem for path in FOLDER.glob("*.json")}
    assert {model.TOPIC for model in MODELS} <= {topic.name for topic in TOPICS}


@pytest.mark.parametrize("kind", sorted(build_schemas()))
def test_a_schema_changes_compatibly_or_not_at_all(kind):
    committed = json.loads((FOLDER / f"{kind}.json").read_text())
    assert find_incompatibilities(committed, build_schemas()[kind]) == []
    assert committed == build_schemas()[kind], "run: python -m libs.common.messages.json_schemas"


def test_incompatible_changes_are_found():
    old = {
        "$defs": {
            "A": {"properties": {"x": {"type": "string"}, "y": {}, "z": {}}, "required": ["x", "z"]}
        }
    }
    new = {
        "$defs": {
            "A": {
                "properties": {"x": {"type": "integer"}, "z": {}, "w": {}},
                "required": ["x", "w"],
            }
        }
    }
    found = find_incompatibilities(old, new)
    assert "A.y is gone" in found
    assert "A.x has another type" in found
    assert "A.w is required now" in found
    assert "A.z is no longer sure to be there" in found
    assert find_incompatibilities(old, {"$defs": {}}) == ["A is gone"]


def test_the_envelope_is_a_binary_cloud_event():
    example = BY_KIND["perigee.stage-change.v1"]
    message = build_message(
        example, key="c", message_id="i", source="/scoring", time=1, reason="time"
    )
    headers = dict(message.headers)
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": b"i",
        "ce_type": b"perigee.stage-change.v1",
        "ce_source": b"/scoring",
        "ce_time": b"1970-01-01T00:00:00.000001Z",
        "content-type": b"application/json",
        "ce_reason": b"time",
    }
    assert event_type_of(message.headers) == "perigee.stage-change.v1"
    assert event_type_of([]) == ""
    assert (message.topic, message.key) == ("stage-changes", b"c")


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"workspace":1}', b"\xff"])
def test_what_does_not_fit_is_an_invalid_message(value):
    with pytest.raises(InvalidMessage):
        decode_value(Touchpoint, value)


def test_an_unknown_field_is_ignored():
    raw = json.loads(msgspec.json.encode(BY_KIND["perigee.touchpoint.v1"]))
    assert (
        decode_value(Touchpoint, json.dumps({**raw, "from_the_future": 1}).encode())
        == BY_KIND["perigee.touchpoint.v1"]
    )
