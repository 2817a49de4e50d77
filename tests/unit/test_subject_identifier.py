"""Identifier by which a touchpoint finds its contact, and the contact id that it creates."""

import pytest

from libs.common.instants import DAY
from services.scoring.domain.identity import (
    OwnershipPeriod,
    extract_identity,
    new_contact_id,
    subject_identifier,
)
from tests.support.touchpoints import START, touchpoint

ADA = ("user_id", "ada")
MAIL = ("email", "ada@x.test")
PERIODS = [
    OwnershipPeriod((START + DAY, "web", "m1"), ADA),
    OwnershipPeriod((START + 2 * DAY, "web", "m2"), MAIL),
]


@pytest.mark.parametrize(
    ("sent", "subject"),
    [
        (touchpoint(3 * DAY, user_id="byron", anonymous_id="phone"), ("user_id", "byron")),
        (touchpoint(0, anonymous_id="phone"), ADA),
        (touchpoint(2 * DAY - 1, anonymous_id="phone"), ADA),
        (touchpoint(2 * DAY, number=2, anonymous_id="phone"), MAIL),
    ],
)
def test_device_touchpoint_belongs_to_owner_then(sent, subject):
    assert subject_identifier(extract_identity(sent), PERIODS) == subject


def test_unclaimed_device_is_its_own_subject():
    identity = extract_identity(touchpoint(anonymous_id="phone"))

    assert subject_identifier(identity, []) == ("anonymous_id", "phone")


def test_touchpoint_without_identifier_is_its_own_subject():
    identity = extract_identity(touchpoint(number=1, source="app", anonymous_id="null"))

    assert subject_identifier(identity, PERIODS) == ("message", "app:m1")


def test_contact_id_is_same_in_every_release():
    """Stored contact ids, and ids in other systems, stay valid."""
    assert new_contact_id("default", ("user_id", "u")) == "c420f2939a6c847f3f74ef1c58267fe1"


def test_contact_ids_differ_by_workspace_and_identifier():
    contacts = {
        new_contact_id(workspace, identifier)
        for workspace in ("default", "shop")
        for identifier in (("user_id", "u"), ("user_id", "v"), ("email", "u"))
    }

    assert len(contacts) == 6
