"""JSON paths of adapter mappings: selection, and refusal of invalid paths."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigurationError
from services.ingest.domain.json_path import get_at, parse_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", {"a": [{"b c": 1}, 2], "event-data": {"id": 3}}),
        ("a[0]", {"b c": 1}),
        ('a[0]["b c"]', 1),
        ("a[-1]", 2),
        ("event-data.id", 3),
        ("a[9]", None),
        ("a.b", None),
        ("event-data.id.x", None),
        ("event-data[0]", None),
    ],
)
def test_json_path_selects_value(path, expected):
    assert get_at(parse_path(path), {"a": [{"b c": 1}, 2], "event-data": {"id": 3}}) == expected


@pytest.mark.parametrize(
    "path",
    [
        ".a",
        "a.",
        "a..b",
        "a[",
        "a[x]",
        "a[1",
        "a b",
        "a[*]",
        "__import__('os')",
        3,
        None,
        "a" + ".a" * 20,
    ],
)
def test_invalid_json_path_is_refused(path):
    with pytest.raises(ConfigurationError):
        parse_path(path)


@given(st.text(max_size=60))
def test_any_text_is_a_json_path_or_refused(text):
    with contextlib.suppress(ConfigurationError):
        get_at(parse_path(text), {"a": [1]})
