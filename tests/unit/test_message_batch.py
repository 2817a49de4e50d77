"""Bodies split into messages, with the defaults of a batch."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidMessage
from libs.common.ids import WorkspaceId
from services.ingest.domain import json_body, message_batch
from services.ingest.domain.message_batch import MAX_CONTEXT, MAX_MESSAGES, MAX_TIME
from services.ingest.domain.request_context import BatchDefaults, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import TrackingCall
from tests.support.encoding_paths import touchpoint_of_message

RECEIVED = RequestContext(
    Source(WorkspaceId("default"), "web"),
    1_780_000_000_000_000,
    lambda: "made-up",
    call_type="track",
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=9)
    | st.just("a\0b")
    | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(TrackingCall.__struct_encode_fields__)
LIKELY = st.fixed_dictionaries(
    {
        "type": st.just("track"),
        "event": st.just("E"),
        "userId": st.just("u"),
        "messageId": st.just("m"),
    }
)
MESSAGES = (
    st.builds(
        lambda likely, other: {**likely, **other},
        LIKELY,
        st.dictionaries(NAMES | st.text(max_size=3), VALUES, max_size=3),
    )
    | VALUES
)


WELL = {
    "batch": [
        {
            "type": "track",
            "event": "É",
            "userId": "u",
            "messageId": "m",
            "timestamp": "2026-05-28T20:26:41Z",
            "properties": {"a": 1, "b": [1.5, {"c": "x"}], "value": "3"},
            "context": {
                "page": {"url": "https://x.test/?utm_source=a"},
                "traits": {"email": "A@x"},
            },
        },
        {"type": "identify", "userId": 7, "traits": {"email": "B@x", "n": 9007199254740993}},
    ],
    "sentAt": "2026-05-28T20:26:42Z",
    "context": {"locale": "en"},
}
PIECES = (
    rb"\u0000", b"\0", b"\xff", b"\xc3", rb"\ud800", b"1e400", b"-0",
    b"18446744073709551616", b"9223372036854775808", b"-9223372036854775808",
    rb"?p\u0067t=T", b"NaN", rb"\u00", rb"\u00\u00300", rb"\u00\u00326",
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b'{"a":' * 30, b"\\", b"pgt=T",
    b"0" * 20, b" ",
)  # fmt: skip


def reason(call, *arguments, **fields):
    with pytest.raises(InvalidMessage) as error:
        call(*arguments, **fields)
    return error.value.reason


def check_same(raw):
    """Return the touchpoints of a body, equal on both paths. Raises InvalidMessage."""
    found = message_batch.parse_batch(raw, is_batch=True)
    received = msgspec.structs.replace(
        RECEIVED, batch_defaults=BatchDefaults(found.sent_at, found.context)
    )
    return [touchpoint_of_message(message, received) for message in found.messages]


@given(st.lists(MESSAGES, max_size=4), st.booleans())
def test_both_paths_agree_on_any_batch(messages, ascii_only):
    try:
        raw = json.dumps(
            {"batch": messages, "context": {"locale": "en"}}, ensure_ascii=ascii_only
        ).encode()
    except UnicodeEncodeError:
        raw = json.dumps({"batch": messages}).encode()
    check_same(raw)


def check_stored(value):
    """Assert that PostgreSQL can store it: no NUL, lone surrogate, long integer or infinity."""
    if isinstance(value, str):
        assert "\0" not in value.encode().decode()
    elif isinstance(value, dict):
        for name, inner in value.items():
            check_stored(name)
            check_stored(inner)
    elif isinstance(value, list):
        for inner in value:
            check_stored(inner)
    elif isinstance(value, int):
        assert abs(value) < 1 << 63
    elif isinstance(value, float):
        assert math.isfinite(value)


@given(
    st.lists(
        st.tuples(st.integers(0, 500), st.integers(0, 5), st.sampled_from(PIECES)), max_size=4
    ),
    st.booleans(),
)
def test_both_paths_agree_on_any_bytes(edits, ascii_only):
    raw = json.dumps(WELL, ensure_ascii=ascii_only).encode()
    for at, length, piece in edits:
        raw = raw[:at] + piece + raw[at + length :]
    try:
        found = check_same(raw)
    except InvalidMessage:
        return  # the whole is unreadable
    check_stored(msgspec.to_builtins(found))


@given(MESSAGES)
def test_single_call_equals_call_in_a_batch(message):
    raw = json.dumps(message).encode()

    try:
        found = message_batch.parse_batch(raw, is_batch=False)
    except InvalidMessage as error:
        assert error.reason == "bad_shape"
        assert not isinstance(message, dict)
        return

    assert [touchpoint_of_message(one, RECEIVED) for one in found.messages] == check_same(
        b'{"batch":[%b]}' % raw
    )


def test_batch_is_split_with_its_defaults():
    found = message_batch.parse_batch(
        b'{"batch":[{"a":1},2],"writeKey":"k","sentAt":"t","context":{"x":1}}', is_batch=True
    )

    assert found.messages == [b'{"a":1}', b"2"]
    assert (found.write_key, found.sent_at, found.context) == ("k", "t", b'{"x":1}')


def test_bad_message_does_not_affect_others():
    found = message_batch.parse_batch(
        b'{"batch":[{"userId":"u","x":NaN},{"userId":"v"}]}', is_batch=True
    )

    assert reason(json_body.decode_clean, found.messages[0]) == "bad_number"
    assert json_body.decode_clean(found.messages[1]) == {"userId": "v"}


def test_number_of_messages_is_bounded():
    assert (
        len(
            message_batch.parse_batch(
                b'{"batch":[' + b"1," * (MAX_MESSAGES - 1) + b"1]}", is_batch=True
            ).messages
        )
        == MAX_MESSAGES
    )
    assert (
        reason(
            message_batch.parse_batch, b'{"batch":[' + b"1," * MAX_MESSAGES + b"1]}", is_batch=True
        )
        == "too_many"
    )


def test_batch_context_is_bounded_and_cleaned():
    big = b'{"batch":[],"context":{"a":"' + b"x" * MAX_CONTEXT + b'"}}'
    assert reason(message_batch.parse_batch, big, is_batch=True) == "too_large"
    deep = b'{"batch":[],"context":' + b'{"a":' * 30 + b"1" + b"}" * 31

    assert reason(message_batch.parse_batch, deep, is_batch=True) == "too_deep"
    assert (
        message_batch.parse_batch(rb'{"batch":[],"context":{"a":"\u0000"}}', is_batch=True).context
        == '{"a":"\ufffd"}'.encode()
    )
    assert message_batch.parse_batch(b'{"batch":[],"context":3}', is_batch=True).context == b""


@pytest.mark.parametrize("sent_at", ["\\ud800", "x" * 1_000_000, "[1]", "{}", "[" * 15 + "]" * 15])
def test_send_time_is_bounded_and_cleaned(sent_at):
    raw = f'"{sent_at}"' if sent_at[0] not in "[{" else sent_at

    found = message_batch.parse_batch(f'{{"sentAt":{raw},"batch":[{{}}]}}'.encode(), is_batch=True)

    assert found.sent_at is None or len(found.sent_at.encode()) <= 3 * MAX_TIME


def test_batch_context_counts_as_clean_json():
    for text in ("&" * 2_800, "\u0416" * 6_000):
        for neighbour in ("{}", '"\\ud800"', '{"x":"' + "y" * json_body.MAX_EVENT + '"}'):
            raw = f'{{"batch":[{{}},{neighbour}],"context":{json.dumps({"a": text})}}}'.replace(
                "&", "\\u0026"
            ).encode()
            assert (
                message_batch.parse_batch(raw, is_batch=True).context
                == json.dumps({"a": text}, ensure_ascii=False).replace(" ", "").encode()
            )
    assert (
        reason(
            message_batch.parse_batch,
            b'{"batch":[],"context":' + b'{"a":' + b" " * 300_000 + b"1}}",
            is_batch=True,
        )
        == "too_large"
    )
    grows = b'{"batch":[],"context":{"a":[' + b"1e15," * 2_000 + b"1]}}"

    assert reason(message_batch.parse_batch, grows, is_batch=True) == "too_large"


def test_repeated_batch_context_is_bounded():
    raw = b'{"batch":[%b{}],"context":{"a":"' + b"x" * (MAX_CONTEXT - 100) + b'"}}'

    assert message_batch.parse_batch(raw % (b"{}," * 1_000), is_batch=True).context
    assert reason(message_batch.parse_batch, raw % (b"{}," * 1_100), is_batch=True) == "too_large"


def test_lone_surrogate_does_not_grow_other_messages():
    text = json.dumps({"a": "\u0416" * 60_000}, ensure_ascii=False)

    found = message_batch.parse_batch(f'{{"batch":[{text},"\\ud800"]}}'.encode(), is_batch=True)

    assert len(found.messages[0]) < 2 * 60_000 + 100


def test_batch_context_has_no_link_token():
    raw = b'{"batch":[],"context":{"page":{"url":"https://x.test/?a=1&pgt=TOK"}}}'

    assert (
        message_batch.parse_batch(raw, is_batch=True).context
        == b'{"page":{"url":"https://x.test/?a=1"}}'
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b"[]", "bad_shape"),
        (b'{"batch":{}}', "bad_shape"),
        (b'{"nothing":1}', "bad_shape"),
    ],
)
def test_unreadable_batches_are_refused(raw, expected):
    assert reason(message_batch.parse_batch, raw, is_batch=True) == expected
