"""Messages: golden encodings, committed schemas, and the CloudEvents envelope."""

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


@pytest.mark.parametrize("example", EXAMPLES, ids=kind_name)
def test_example_encodes_to_golden_bytes(example):
    path = GOLDEN / f"{type(example).KIND}.json"

    assert json.loads(path.read_bytes()) == json.loads(msgspec.json.encode(example))
    assert decode_value(type(example), path.read_bytes()) == example


@pytest.mark.parametrize(
    "path", sorted((GOLDEN / "earlier").glob("*.json")), ids=lambda path: path.stem
)
def test_messages_of_earlier_releases_decode(path):
    kind = path.stem.rpartition(".")[0]

    message = decode_value(type(BY_KIND[kind]), path.read_bytes())

    assert msgspec.to_builtins(message).items() >= json.loads(path.read_bytes()).items()


def test_every_model_has_example_schema_and_topic():
    kinds = {model.KIND for model in MODELS}

    assert kinds == BY_KIND.keys() == {path.stem for path in FOLDER.glob("*.json")}
    assert {model.TOPIC for model in MODELS} <= {topic.name for topic in TOPICS}


@pytest.mark.parametrize("kind", sorted(build_schemas()))
def test_committed_schema_is_current_and_compatible(kind):
    committed = json.loads((FOLDER / f"{kind}.json").read_text())

    assert find_incompatibilities(committed, build_schemas()[kind]) == []
    assert committed == build_schemas()[kind], "run: python -m libs.common.messages.json_schemas"


def test_incompatible_schema_changes_are_reported():
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

    faults = find_incompatibilities(old, new)

    assert "A.y is gone" in faults
    assert "A.x has another type" in faults
    assert "A.w is required now" in faults
    assert "A.z is no longer sure to be there" in faults
    assert find_incompatibilities(old, {"$defs": {}}) == ["A is gone"]


def test_envelope_is_binary_cloud_event():
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
def test_malformed_value_is_invalid_message(value):
    with pytest.raises(InvalidMessage):
        decode_value(Touchpoint, value)


def test_unknown_field_is_ignored():
    raw = json.loads(msgspec.json.encode(BY_KIND["perigee.touchpoint.v1"]))

    assert (
        decode_value(Touchpoint, json.dumps({**raw, "from_the_future": 1}).encode())
        == BY_KIND["perigee.touchpoint.v1"]
    )
