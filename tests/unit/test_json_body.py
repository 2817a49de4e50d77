"""Request bodies: limits, gzip, and what hostile JSON costs."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidMessage
from services.ingest.domain import json_body


def reason(call, *arguments, **fields):
    with pytest.raises(InvalidMessage) as error:
        call(*arguments, **fields)
    return error.value.reason


def test_gzip_is_decompressed():
    assert json_body.decompress(gzip.compress(b'{"a":1}'), "gzip") == b'{"a":1}'
    assert json_body.decompress(b"plain", "") == b"plain"


def test_gzip_bomb_is_refused_at_the_limit():
    assert (
        reason(json_body.decompress, gzip.compress(b"0" * (json_body.MAX_BODY + 1)), "gzip")
        == "too_large"
    )
    assert (
        len(json_body.decompress(gzip.compress(b"0" * json_body.MAX_BODY), "gzip"))
        == json_body.MAX_BODY
    )


@pytest.mark.parametrize(
    "raw",
    [b"no gzip", gzip.compress(b"{}")[:-3], gzip.compress(b"{}") + b"more"],
    ids=["none", "cut off", "something behind"],
)
def test_bad_gzip_is_refused(raw):
    assert reason(json_body.decompress, raw, "gzip") == "bad_encoding"


def test_unknown_encoding_is_refused():
    assert reason(json_body.decompress, b"", "br") == "bad_encoding"


def test_nul_and_lone_surrogates_are_replaced():
    message = json_body.decode_clean(
        rb'{"a":"x\u0000y","b":"\ud800","c":"\ud83d\ude00","d\u0000":1}'
    )

    assert message == {"a": "x\ufffdy", "b": "\ufffd", "c": "😀", "d\ufffd": 1}


def test_invalid_utf8_is_replaced():
    assert json_body.decode_clean(b'{"a":"\xff"}') == {"a": "\ufffd"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a":' * 30 + b"1" + b"}" * 30, "too_deep"),
        (b'{"a":' + b"[" * 150_000 + b"]" * 150_000 + b"}", "too_large"),
        (b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "bad_json"),
        (b'{"a":1e400}', "bad_number"),
        (b'{"a":Infinity}', "bad_number"),
        (b'{"a":"' + b"x" * json_body.MAX_EVENT + b'"}', "too_large"),
    ],
)
def test_hostile_messages_are_refused(raw, expected):
    assert reason(json_body.decode_clean, raw) == expected


def test_nesting_at_the_limit_passes():
    raw = b'{"a":' * json_body.MAX_DEPTH + b"1" + b"}" * json_body.MAX_DEPTH

    assert json_body.decode_clean(raw) == json.loads(raw)


@pytest.mark.parametrize("number", ["18446744073709551616123", "1" * 4_000])
def test_integers_beyond_64_bits_are_refused(number):
    assert reason(json_body.decode_clean, f'{{"p":{number}}}'.encode()) == "bad_number"
    assert json_body.decode_clean(b'{"p":"12345678901234567890"}') == {"p": "12345678901234567890"}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 65), 1 << 65)
    | st.floats()
    | st.text()
    | st.text('\0&"\\u06/a\ud800'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
)


def outcome(make, *arguments):
    try:
        return json.dumps(make(*arguments))
    except InvalidMessage as error:
        return error.reason


@given(VALUES, st.integers(0, json_body.MAX_DEPTH + 2), st.booleans())
def test_strict_and_lenient_decoding_agree(value, levels, as_list):
    for _ in range(levels):
        value = [value] if as_list else {"a": value}

    raw = json.dumps(value).encode()

    assert outcome(json_body.decode_clean, raw) == outcome(
        lambda: json_body.clean_value(json.loads(raw))
    )


@given(st.text() | st.text('\0&"\\u0026/aA\x1f'), st.booleans())
def test_normalised_escapes_keep_the_value(text, upper):
    escaped = "".join(f"\\u{ord(c):04{'X' if upper else 'x'}}" for c in text if ord(c) < 0x10000)
    raw = (
        json.dumps({"plain": text, text: 1}).replace("&", "\\u0026").encode()
        + f' "{escaped}"'.encode()
    )
    found = json_body.normalise_escapes(raw)
    said, end = json.JSONDecoder().raw_decode(found.decode())

    clean = text.replace("\0", "\ufffd")

    assert said in ({"plain": clean, clean: 1}, {"plain": 1})
    assert json.loads(found.decode()[end:]) == "".join(c for c in clean if ord(c) < 0x10000)
    assert rb"\u0026" not in found.replace(rb"\\", b"")
    assert json_body.normalise_escapes(found) == found
    assert not {letter for letter in text if letter.isalnum() and letter.isascii()} - set(
        found.decode()[end:]
    )


def test_normalised_escapes_keep_quotes_and_backslashes():
    raw = rb'{"a":"\u0022,\u005c\u005Cu0026\\u0026\\\u0026\n\u001f"}'

    found = json_body.normalise_escapes(raw)

    assert found == rb'{"a":"\",\\\\u0026\\u0026\\&\n\u001f"}'
    assert json.loads(found) == json.loads(raw)


@pytest.mark.parametrize(
    "raw", [rb'"u\u00\u00300"', rb'"\u00\u00326pgt=T"', rb'"\u002\u0036"', rb'"\u0026\u00']
)
def test_half_an_escape_stays_invalid(raw):
    assert json_body.normalise_escapes(raw) == raw
    assert reason(json_body.decode_clean, raw) == "bad_json"


def test_only_refused_json_is_cleaned(monkeypatch):
    monkeypatch.setattr(json_body, "clean_value", lambda value: "cleaned")

    nested = (
        b'{"a":' * json_body.SHALLOW + rb'["x\u0026y",1,1.5,true,null]' + b"}" * json_body.SHALLOW
    )

    assert json_body.decode_clean(nested[5:-1]) != "cleaned"
    assert json_body.decode_clean(nested) == "cleaned"
