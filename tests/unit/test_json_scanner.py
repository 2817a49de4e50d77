"""Where values end, which names stand where, and what an instant is, in bytes as in what decoders read."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.link_tokens import LINK_PARAMETER
from services.ingest.domain.timestamps import parse_instant
from services.ingest.fastpath.instant_scanner import NEVER, scan_instant
from services.ingest.fastpath.json_scanner import LONGEST_NUMBER, NOWHERE, value_end
from services.ingest.fastpath.name_table import NameTable
from services.ingest.fastpath.parser import LEVELS
from tests.support.json_values import VALUES


@given(
    st.lists(
        st.sampled_from(
            [
                *'{}[]:,"\\ \n\t\v0123456789.-+eEnultrfasbp/ugt\x7fé',
                "true",
                '"a"',
                "\\u00e9",
                "\\uD800",
            ]
        ),
        max_size=14,
    )
)
def test_what_has_an_end_is_json(pieces):
    raw = "".join(pieces).encode()
    end = value_end(raw + b"\0", 0, LEVELS)
    if end >= 0:
        json.loads(raw[:end])


@given(VALUES)
def test_what_is_json_ends_where_it_ends_or_nowhere(value):
    raw = json.dumps(value).encode()
    assert value_end(raw + b" ,\0", 0, LEVELS) in (len(raw), -1)


@pytest.mark.parametrize(
    "name",
    [LINK_PARAMETER, *(LINK_PARAMETER.replace(c, f"\\u{ord(c):04x}") for c in LINK_PARAMETER)],
)
def test_a_text_with_a_tokens_name_has_no_end(name):
    assert value_end(f'"https://x.test/?{name}=T"'.encode() + b"\0", 0, LEVELS) == NOWHERE


@pytest.mark.parametrize(
    "number", ["0", "-0", "10", "-1.5", "0.05", "9" * LONGEST_NUMBER, "1" * (LONGEST_NUMBER - 1)]
)
def test_plain_numbers_end(number):
    assert value_end(number.encode() + b",\0", 0, 1) == len(number)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    st.datetimes(EPOCH.replace(tzinfo=None), timezones=st.just(UTC)),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
@example(datetime(2000, 2, 29, tzinfo=UTC), "seconds")
@example(EPOCH, "microseconds")
def test_an_instant_is_what_timing_reads(moment, precision):
    text = moment.isoformat(timespec=precision).replace("+00:00", "Z")
    assert scan_instant(text.encode()) == parse_instant("timestamp", text)


@given(
    st.text("0123456789-:.TZ+ tz", min_size=18, max_size=28)
    | st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z\Z")
)
def test_what_is_no_instant_is_none(text):
    found = scan_instant(text.encode())
    if found == NEVER:
        return
    assert found == parse_instant("timestamp", text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "",
    ],
)
def test_days_that_are_none(text):
    assert scan_instant(text.encode()) == NEVER


@given(
    st.dictionaries(st.binary(min_size=1, max_size=4), st.integers(1, 5), min_size=1),
    st.binary(max_size=6),
)
def test_a_name_has_its_number_wherever_it_stands(numbers, other):
    names = NameTable(numbers)
    for name in (*numbers, other):
        assert names.number(b"x" + name + b"y", 1, 1 + len(name)) == numbers.get(name, 0)
