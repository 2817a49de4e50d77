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


@pytest.mark.parametrize("number", ["18446744073709551616123", "1" * 4_000])
def test_integers_beyond_64_bits_are_refused(number):
    assert reason(body.read, f'{{"p":{number}}}'.encode()) == "bad_number"
    assert body.read(b'{"p":"12345678901234567890"}') == {"p": "12345678901234567890"}
