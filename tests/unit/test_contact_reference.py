"""Contact references parse into every possible reading, the most specific first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.contact_reference import parse_contact_reference


@pytest.mark.parametrize(
    ("text", "identifiers", "addresses"),
    [
        ("alice", [(None, "alice")], ()),
        ("user_id:alice", [("user_id", "alice"), (None, "user_id:alice")], ()),
        (
            "external:crm:7",
            [("external", "crm:7"), ("external:crm", "7"), (None, "external:crm:7")],
            (),
        ),
        ("a@x.test", [(None, "a@x.test"), ("email", "a@x.test")], ("a@x.test",)),
        ("A@X.test", [(None, "A@X.test"), ("email", "a@x.test")], ("A@X.test", "a@x.test")),
        ("email:a@x.test", [("email", "a@x.test"), (None, "email:a@x.test")], ("a@x.test",)),
    ],
)
def test_reference_has_all_readings(text, identifiers, addresses):
    parsed = parse_contact_reference(text)

    assert list(parsed.identifiers) == identifiers
    assert parsed.addresses == addresses


@given(st.text())
def test_untyped_value_is_always_a_reading(text):
    parsed = parse_contact_reference(text)

    assert (None, text) in parsed.identifiers
    assert len(parsed.types) == len(parsed.values) <= 4
