"""Request bodies: limits, gzip, and what hostile JSON costs."""

import gzip
import json

import pytest

from libs.common.errors import InvalidMessage
from services.ingest.domain import body


def reason(call, *arguments, **fields):
    with pytest.raises(InvalidMessage) as error:
        call(*arguments, **fields)
    return error.value.reason


def test_gzip_is_undone():
    assert body.unpack(gzip.compress(b'{"a":1}'), "gzip") == b'{"a":1}'
    assert body.unpack(b"plain", "") == b"plain"


def test_a_gzip_bomb_is_refused_at_the_limit():
    assert reason(body.unpack, gzip.compress(b"0" * (body.MAX_BODY + 1)), "gzip") == "too_large"
    assert len(body.unpack(gzip.compress(b"0" * body.MAX_BODY), "gzip")) == body.MAX_BODY


@pytest.mark.parametrize(
    "raw",
    [b"no gzip", gzip.compress(b"{}")[:-3], gzip.compress(b"{}") + b"more"],
    ids=["none", "cut off", "something behind"],
)
def test_bad_gzip(raw):
    assert reason(body.unpack, raw, "gzip") == "bad_encoding"


def test_an_unknown_encoding():
    assert reason(body.unpack, b"", "br") == "bad_encoding"


def test_a_batch_is_split_with_what_it_says_for_all():
    batch = body.split(b'{"batch":[{"a":1},2],"writeKey":"k","sentAt":"t","context":{"x":1}}', is_batch=True)
    assert batch.messages == [b'{"a":1}', b"2"]
    assert (batch.write_key, batch.sent_at, batch.context) == ("k", "t", b'{"x":1}')


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
def test_unreadable_batches(raw, expected):
    assert reason(body.split, raw, is_batch=True) == expected


def test_a_bad_neighbour_costs_only_itself():
    batch = body.split(b'{"batch":[{"userId":"u","x":NaN},{"userId":"v"}]}', is_batch=True)
    assert reason(body.read, batch.messages[0]) == "bad_number"
    assert body.read(batch.messages[1]) == {"userId": "v"}


def test_nul_and_lone_surrogates_are_replaced():
    message = body.read(rb'{"a":"x\u0000y","b":"\ud800","c":"\ud83d\ude00","d\u0000":1}')
    assert message == {"a": "x\ufffdy", "b": "\ufffd", "c": "😀", "d\ufffd": 1}


def test_invalid_utf8_is_replaced():
    assert body.read(b'{"a":"\xff"}') == {"a": "\ufffd"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a":' * 30 + b"1" + b"}" * 30, "too_deep"),
        (b'{"a":' + b"[" * 150_000 + b"]" * 150_000 + b"}", "too_large"),
        (b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "bad_json"),
        (b'{"a":1e400}', "bad_number"),
        (b'{"a":Infinity}', "bad_number"),
        (b'{"a":"' + b"x" * body.MAX_EVENT + b'"}', "too_large"),
    ],
)
def test_hostile_messages(raw, expected):
    assert reason(body.read, raw) == expected


def test_nesting_at_the_limit_passes():
    raw = b'{"a":' * body.MAX_DEPTH + b"1" + b"}" * body.MAX_DEPTH
    assert body.read(raw) == json.loads(raw)


def test_a_batch_has_a_largest_number_of_messages():
    assert (
        len(body.split(b'{"batch":[' + b"1," * (body.MAX_MESSAGES - 1) + b"1]}", is_batch=True).messages)
        == body.MAX_MESSAGES
    )
    assert reason(body.split, b'{"batch":[' + b"1," * body.MAX_MESSAGES + b"1]}", is_batch=True) == "too_many"


def test_the_batch_context_is_bounded_and_cleaned_as_messages_are():
    big = b'{"batch":[],"context":{"a":"' + b"x" * body.MAX_CONTEXT + b'"}}'
    assert reason(body.split, big, is_batch=True) == "too_large"
    deep = b'{"batch":[],"context":' + b'{"a":' * 30 + b"1" + b"}" * 31
    assert reason(body.split, deep, is_batch=True) == "too_deep"
    assert body.split(rb'{"batch":[],"context":{"a":"\u0000"}}', is_batch=True).context == '{"a":"\ufffd"}'.encode()
    assert body.split(b'{"batch":[],"context":3}', is_batch=True).context == b""


@pytest.mark.parametrize("sent_at", ["\\ud800", "x" * 1_000_000, "[1]", "{}"])
def test_what_a_batch_says_for_all_is_small_and_clean(sent_at):
    raw = f'"{sent_at}"' if sent_at[0] not in "[{" else sent_at
    found = body.split(f'{{"sentAt":{raw},"batch":[{{}}]}}'.encode(), is_batch=True)
    assert len(found.sent_at.encode()) <= 3 * body.MAX_TIME


@pytest.mark.parametrize("number", ["18446744073709551616123", "1" * 4_000])
def test_integers_beyond_64_bits_are_refused(number):
    assert reason(body.read, f'{{"p":{number}}}'.encode()) == "bad_number"
    assert body.read(b'{"p":"12345678901234567890"}') == {"p": "12345678901234567890"}


def test_no_token_is_kept_in_what_a_batch_says_for_all():
    raw = b'{"batch":[],"context":{"page":{"url":"https://x.test/?a=1&pgt=TOK"}}}'
    assert body.split(raw, is_batch=True).context == b'{"page":{"url":"https://x.test/?a=1"}}'
