"""Contacts of a whole set of touchpoints, with the links and unlinks of operators."""

import pytest

from libs.common.instants import DAY
from services.scoring.domain.assignment import DeviceKey
from services.scoring.domain.identity import OwnershipPeriod, make_link
from services.scoring.domain.identity_resolution import IdentityResolver, ManualLink, SubjectKey
from tests.support.touchpoints import START, identify, touchpoint

ADA, BOB = ("user_id", "ada"), ("user_id", "bob")
MAIL = ("email", "ada@x.test")
PHONE = ("anonymous_id", "phone")


def correction(kind, first, second, at=0, workspace="default"):
    key = (START + at, "operator", f"{kind}-{at}")
    return ManualLink(workspace, make_link(first, second), kind, key)


def resolve(*touchpoints, corrections=()):
    resolver = IdentityResolver(list(corrections))
    for each in touchpoints:
        resolver.add_touchpoint(each)
    resolver.resolve()
    return resolver


def subject(identifier, workspace="default"):
    return SubjectKey(workspace, *identifier)


def linked(workspace="default"):
    """Return a server's touchpoint that links ada with her address."""
    return touchpoint(
        number=9, workspace=workspace, user_id="ada", verified_email=MAIL[1], trust="server"
    )


def test_contact_is_smallest_of_linked_identifiers():
    resolver = resolve(linked())

    assert resolver.subject_of_identifier("default", ADA) == subject(MAIL)
    assert resolver.subject_of_identifier("default", MAIL) == subject(MAIL)
    assert resolver.subject_of_touchpoint(touchpoint(DAY, user_id="ada")) == subject(MAIL)


def test_server_alias_joins_former_user():
    renamed = touchpoint(name="", type="alias", user_id="bob", previous_id="ada", trust="server")

    resolver = resolve(renamed)

    assert resolver.subject_of_identifier("default", BOB) == subject(ADA)
    assert resolver.subject_of_identifier("default", ADA) == subject(ADA)


def test_links_and_claims_stay_in_their_workspace():
    claimed = identify(0, "ada", "phone", workspace="shop", number=1)
    sent = {
        workspace: touchpoint(DAY, workspace=workspace, anonymous_id="phone")
        for workspace in ("default", "shop")
    }

    resolver = resolve(linked("shop"), claimed, touchpoint(DAY, user_id="ada"))

    assert resolver.subject_of_identifier("default", ADA) == subject(ADA)
    assert resolver.subject_of_identifier("shop", ADA) == subject(MAIL, "shop")
    assert resolver.subject_of_touchpoint(sent["default"]) == subject(PHONE)
    assert resolver.subject_of_touchpoint(sent["shop"]) == subject(MAIL, "shop")


def test_unseen_identifier_is_its_own_contact():
    resolver = resolve(linked())

    assert resolver.subject_of_identifier("default", BOB) == subject(BOB)
    assert resolver.list_identifiers(subject(BOB)) == {subject(BOB)}


def test_device_changes_hands_with_each_claim():
    resolver = resolve(identify(2 * DAY, "bob", "phone", number=2), identify(0, "ada", "phone"))

    owners = [
        resolver.subject_of_touchpoint(touchpoint(at, anonymous_id="phone")).value
        for at in (-DAY, DAY, 3 * DAY)
    ]

    assert owners == ["ada", "ada", "bob"]
    assert resolver.ownership == {
        DeviceKey("default", "phone"): [
            OwnershipPeriod((START, "web", "m0-"), ADA),
            OwnershipPeriod((START + 2 * DAY, "web", "m2"), BOB),
        ]
    }


def test_touchpoint_without_identifier_is_its_own_contact():
    resolver = resolve(identify(0, "ada", "phone"))

    lonely = touchpoint(number=7, source="app", anonymous_id="null")

    assert resolver.subject_of_touchpoint(lonely) == subject(("message", "app:m7"))


def test_ownership_is_empty_before_resolution():
    resolver = IdentityResolver([])

    resolver.add_touchpoint(identify(0, "ada", "phone"))

    assert resolver.ownership == {}


def test_contact_lists_names_and_their_devices():
    resolver = resolve(
        linked(),
        identify(0, "ada", "phone"),
        identify(DAY, "bob", "phone"),
        touchpoint(DAY, verified_email=MAIL[1], anonymous_id="tablet"),
        identify(DAY, "bob", "laptop", number=3),
    )

    identifiers = resolver.list_identifiers(subject(MAIL))

    assert identifiers == {subject(name) for name in (ADA, MAIL, PHONE, ("anonymous_id", "tablet"))}


@pytest.mark.parametrize("workspace", ["default", "shop"])
def test_manual_link_joins_unseen_identifiers(workspace):
    resolver = resolve(corrections=[correction("link", ADA, MAIL, workspace=workspace)])

    assert resolver.subject_of_identifier(workspace, ADA) == subject(MAIL, workspace)
    assert resolver.subject_of_identifier(workspace, MAIL) == subject(MAIL, workspace)
    assert resolver.list_identifiers(subject(MAIL, workspace)) == {
        subject(ADA, workspace),
        subject(MAIL, workspace),
    }


def test_manual_link_joins_seen_users():
    seen = [touchpoint(user_id="ada", number=1), touchpoint(user_id="bob", number=2)]

    resolver = resolve(*seen, corrections=[correction("link", ADA, BOB)])

    assert [resolver.subject_of_touchpoint(each) for each in seen] == [subject(ADA)] * 2


def test_unlink_separates_linked_identifiers():
    resolver = resolve(linked(), corrections=[correction("unlink", ADA, MAIL)])

    assert resolver.subject_of_identifier("default", ADA) == subject(ADA)
    assert resolver.subject_of_identifier("default", MAIL) == subject(MAIL)


def test_unlink_spares_other_workspaces_and_pairs():
    corrections = [
        correction("unlink", ADA, MAIL, workspace="shop"),
        correction("unlink", BOB, MAIL),
    ]

    resolver = resolve(linked(), corrections=corrections)

    assert resolver.subject_of_identifier("default", ADA) == subject(MAIL)


def test_manual_claim_gives_device_from_its_instant():
    resolver = resolve(
        identify(0, "ada", "phone"), corrections=[correction("link", PHONE, BOB, DAY)]
    )

    owners = [
        resolver.subject_of_touchpoint(touchpoint(at, anonymous_id="phone"))
        for at in (DAY - 1, DAY + 1)
    ]

    assert owners == [subject(ADA), subject(BOB)]


def test_manual_claim_needs_no_touchpoint():
    resolver = resolve(corrections=[correction("link", PHONE, BOB)])

    assert resolver.subject_of_touchpoint(touchpoint(anonymous_id="phone")) == subject(BOB)
    assert resolver.list_identifiers(subject(BOB)) == {subject(BOB), subject(PHONE)}


def test_manual_claim_stays_in_its_workspace():
    resolver = resolve(
        linked(), linked("shop"), corrections=[correction("link", PHONE, BOB, workspace="shop")]
    )

    assert resolver.list_identifiers(subject(BOB)) == {subject(BOB)}
    assert subject(PHONE, "shop") in resolver.list_identifiers(subject(BOB, "shop"))


def test_unlink_revokes_every_claim_of_a_user():
    resolver = resolve(
        identify(0, "ada", "phone"),
        identify(DAY, "bob", "phone"),
        identify(2 * DAY, "ada", "phone"),
        corrections=[correction("unlink", PHONE, ADA)],
    )

    sent = touchpoint(3 * DAY, anonymous_id="phone")

    assert resolver.subject_of_touchpoint(sent) == subject(BOB)
    assert resolver.list_identifiers(subject(ADA)) == {subject(ADA)}


def test_unlinked_device_without_claims_has_no_owner():
    resolver = resolve(identify(0, "ada", "phone"), corrections=[correction("unlink", PHONE, ADA)])

    assert resolver.ownership == {}
    assert resolver.subject_of_touchpoint(touchpoint(anonymous_id="phone")) == subject(PHONE)
