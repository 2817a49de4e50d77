"""Facts that are derived from others: e-mail address, time zone, last instant of a signal."""

import pytest

from tests.unit.orchestrator.builders import contact_facts


@pytest.mark.parametrize(
    ("traits", "address"),
    [
        ({"email": "ada@x.test"}, "ada@x.test"),
        ({}, None),
        ({"email": None}, None),
        ({"email": ""}, None),
        ({"email": 7}, None),
        ({"email": ["ada@x.test"]}, None),
    ],
)
def test_email_is_a_text_among_traits(traits, address):
    assert contact_facts(traits=traits).email == address


@pytest.mark.parametrize(
    ("traits", "zone"),
    [
        ({"timezone": "Europe/Paris"}, "Europe/Paris"),
        ({}, "UTC"),
        ({"timezone": None}, "UTC"),
        ({"timezone": ""}, "UTC"),
        ({"timezone": 2}, "UTC"),
    ],
)
def test_time_zone_is_utc_by_default(traits, zone):
    assert contact_facts(traits=traits).time_zone == zone


def test_signal_was_last_seen_at_newest_instant():
    contact = contact_facts(signals={"visited": [3, 5, 8], "paid": []})

    assert contact.last_seen("visited") == 8
    assert contact.last_seen("paid") is None
    assert contact.last_seen("called") is None
