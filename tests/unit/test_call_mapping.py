"""Mapping of table rows to calls: typed cells, omitted empty cells, validated templates."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigurationError, InvalidMessage
from services.ingest.domain.call_mapping import CallMapping, call_from_columns

TEMPLATE = {
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


def test_template_maps_row_to_call():
    assert CallMapping(TEMPLATE).to_call(ROW) == {
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
def test_unreadable_cell_error_names_column(change, reason):
    with pytest.raises(InvalidMessage) as error:
        CallMapping(TEMPLATE).to_call({**ROW, **change})

    assert (error.value.reason, next(iter(change)) in error.value.detail) == (reason, True)


def test_missing_column_is_an_error():
    with pytest.raises(InvalidMessage, match="no column 'customer'"):
        CallMapping(TEMPLATE).to_call({k: v for k, v in ROW.items() if k != "customer"})


@pytest.mark.parametrize(
    ("template", "error"),
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
def test_invalid_template_error_names_path(template, error):
    with pytest.raises(ConfigurationError, match=error):
        CallMapping(template, "mapping")


def test_dotted_columns_map_to_nested_fields():
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
def test_any_row_maps_or_is_invalid(row):
    for map_row in (CallMapping(TEMPLATE).to_call, call_from_columns):
        with contextlib.suppress(InvalidMessage):
            map_row(row)
