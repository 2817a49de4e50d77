"""From rows to calls: cells read as what they are, empty ones not given, a wrong template refused with the place."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigurationError, InvalidMessage
from services.ingest.domain.call_mapping import CallMapping, call_from_columns

TREE = {
    "type": "track",
    "event": "Order Completed",
    "userId": {"column": "customer"},
    "timestamp": {
        "column": "date",
        "as": "time",
        "format": "%d/%m/%Y %H:%M",
        "zone": "Europe/Paris",
    },
    "properties": {
        "total": {"column": "amount", "as": "number", "decimal": ","},
        "paid": {"column": "paid", "as": "boolean", "default": False},
        "tags": [{"column": "tag"}, "imported"],
        "note": {"column": "note"},
    },
}
ROW = {
    "customer": "7",
    "date": "28/05/2026 22:26",
    "amount": "1 234,50",
    "paid": "",
    "tag": "a",
    "note": "",
}


def test_a_template_fills_a_call():
    assert CallMapping(TREE).to_call(ROW) == {
        "type": "track",
        "event": "Order Completed",
        "userId": "7",
        "timestamp": "2026-05-28T22:26:00+02:00",
        "properties": {"total": 1234.5, "paid": False, "tags": ["a", "imported"]},
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount": "much"}, "bad_cell"),
        ({"amount": "nan"}, "bad_cell"),
        ({"amount": "1_000"}, "bad_cell"),
        ({"paid": "maybe"}, "bad_cell"),
        ({"date": "2026-05-28"}, "bad_cell"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(change, reason):
    with pytest.raises(InvalidMessage) as error:
        CallMapping(TREE).to_call({**ROW, **change})
    assert (error.value.reason, next(iter(change)) in error.value.detail) == (reason, True)


def test_a_row_without_the_column():
    with pytest.raises(InvalidMessage, match="no column 'customer'"):
        CallMapping(TREE).to_call({k: v for k, v in ROW.items() if k != "customer"})


@pytest.mark.parametrize(
    ("tree", "error"),
    [
        ([], "is an object"),
        ({"userId": {"column": "a", "sort": 1}}, "mapping.userId: sort is not known"),
        ({"properties": {"x": {"column": "a", "as": "money"}}}, "mapping.properties.x: as 'money'"),
        (
            {"properties": {"l": [{"column": "a", "zone": "Mars"}]}},
            r"mapping.properties.l\[0\]: no time zone 'Mars'",
        ),
    ],
)
def test_a_wrong_template_is_refused_with_the_place(tree, error):
    with pytest.raises(ConfigurationError, match=error):
        CallMapping(tree, "mapping")


def test_columns_named_like_fields():
    row = {
        "userId": "u",
        "event": "x",
        "properties.total": "5",
        "properties.item.sku": "s",
        "empty": "",
    }
    assert call_from_columns(row) == {
        "userId": "u",
        "event": "x",
        "properties": {"total": "5", "item": {"sku": "s"}},
    }
    with pytest.raises(InvalidMessage, match="is a value already"):
        call_from_columns({"properties": "x", "properties.total": "5"})


@given(st.dictionaries(st.sampled_from(sorted(ROW)), st.text() | st.none() | st.integers()))
def test_no_row_breaks_it(row):
    for fill in (CallMapping(TREE).to_call, call_from_columns):
        with contextlib.suppress(InvalidMessage):
            fill(row)
