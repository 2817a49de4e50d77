"""Known identifiers, device claims and links of one touchpoint; junk ids identify no contact."""

import msgspec
import pytest

from libs.common.instants import DAY
from services.scoring.domain.identity import extract_identity, is_junk, make_link
from tests.support.touchpoints import START, touchpoint

ADA = ("user_id", "ada")
MAIL = ("email", "ada@x.test")
CRM = ("external:crm", "7")
SHOP = ("external:shop", "3")


def alias(**fields):
    return touchpoint(name="", type="alias", **fields)


@pytest.mark.parametrize(
    "value",
    ["null", " NULL ", "None", "Anonymous", "", "   ", "00000000-0000-0000-0000-000000000000"],
)
def test_placeholder_is_junk(value):
    assert is_junk(value)


@pytest.mark.parametrize(
    "value", ["ada", "null-1", "00", "00000000-0000-0000-0000-000000000001", "x" * 100]
)
def test_id_of_a_program_is_no_junk(value):
    assert not is_junk(value)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"user_id": "ada"}, (ADA,)),
        ({"anonymous_id": "phone"}, ()),
        ({"user_id": "undefined"}, ()),
        # A click in a mail brings the recipient's address through a public source.
        ({"verified_email": "ada@x.test"}, (MAIL,)),
        ({"user_id": "ada", "verified_email": "ada@x.test"}, (ADA, MAIL)),
        ({"user_id": "ada", "external_ids": {"crm": "7"}}, (ADA,)),
        ({"verified_email": "ada@x.test", "external_ids": {"crm": "7"}}, (MAIL,)),
        ({"verified_email": "none"}, ()),
    ],
)
def test_public_source_gives_no_external_ids(fields, names):
    identity = extract_identity(touchpoint(trust="public", **fields))

    assert identity.names == names


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"user_id": "ada"}, (ADA,)),
        ({"anonymous_id": "phone"}, ()),
        ({"verified_email": "ada@x.test"}, (MAIL,)),
        ({"external_ids": {"crm": "7"}}, (CRM,)),
        ({"external_ids": {"shop": "3", "crm": "7"}}, (CRM, SHOP)),
        ({"external_ids": {"shop": "3", "crm": "null"}}, (SHOP,)),
        ({"external_ids": {"crm": "7"}, "verified_email": "null"}, (CRM,)),
        ({"external_ids": {"crm": "7"}, "verified_email": "ada@x.test"}, (MAIL, CRM)),
        (
            {"external_ids": {"crm": "7"}, "verified_email": "ada@x.test", "user_id": "ada"},
            (ADA, MAIL, CRM),
        ),
    ],
)
def test_server_gives_names_strongest_first(fields, names):
    identity = extract_identity(touchpoint(trust="server", **fields))

    assert identity.names == names


def test_identity_keeps_workspace_and_key_of_touchpoint():
    identity = extract_identity(
        touchpoint(DAY, number=1, workspace="shop", source="app", anonymous_id="phone")
    )

    assert identity.workspace == "shop"
    assert identity.key == (START + DAY, "app", "m1")
    assert identity.device == "phone"
    assert identity.previous is None


def test_junk_device_is_no_device():
    assert extract_identity(touchpoint(user_id="ada", anonymous_id="null")).device is None


@pytest.mark.parametrize(
    ("sent", "previous"),
    [
        (alias(user_id="ada", previous_id="phone"), "phone"),
        (alias(user_id="ada", previous_id="null"), None),
        (alias(user_id="ada"), None),
        (touchpoint(user_id="ada", previous_id="phone"), None),
    ],
)
def test_only_an_alias_has_a_previous_id(sent, previous):
    assert extract_identity(sent).previous == previous


@pytest.mark.parametrize(
    ("sent", "claims"),
    [
        (touchpoint(user_id="ada", anonymous_id="phone"), (("phone", ADA),)),
        (touchpoint(verified_email="ada@x.test", anonymous_id="phone"), (("phone", MAIL),)),
        (
            touchpoint(user_id="ada", verified_email="ada@x.test", anonymous_id="phone"),
            (("phone", ADA),),
        ),
        (touchpoint(user_id="ada"), ()),
        (touchpoint(anonymous_id="phone"), ()),
        (touchpoint(user_id="ada", anonymous_id="null"), ()),
        (touchpoint(user_id="ada", previous_id="phone"), ()),
        (alias(user_id="ada", previous_id="phone"), (("phone", ADA),)),
        (alias(user_id="ada", previous_id="null"), ()),
        (
            alias(user_id="ada", anonymous_id="tablet", previous_id="phone"),
            (("phone", ADA), ("tablet", ADA)),
        ),
        (alias(user_id="ada", anonymous_id="phone", previous_id="phone"), (("phone", ADA),)),
        (alias(anonymous_id="tablet", previous_id="phone"), ()),
    ],
)
def test_strongest_name_claims_devices(sent, claims):
    assert extract_identity(sent).claims == claims


@pytest.mark.parametrize(
    ("sent", "links"),
    [
        (touchpoint(user_id="ada"), ()),
        (touchpoint(anonymous_id="phone"), ()),
        (touchpoint(user_id="ada", anonymous_id="phone"), ()),
        (touchpoint(user_id="ada", verified_email="ada@x.test"), ((MAIL, ADA),)),
        (
            touchpoint(user_id="ada", verified_email="ada@x.test", external_ids={"crm": "7"}),
            ((MAIL, ADA), (CRM, ADA)),
        ),
        (touchpoint(external_ids={"crm": "7", "shop": "3"}), ((CRM, SHOP),)),
        (alias(user_id="ada", previous_id="byron"), ((ADA, ("user_id", "byron")),)),
        (alias(user_id="ada", previous_id="ada"), ()),
        (alias(user_id="ada", previous_id="null"), ()),
        (alias(anonymous_id="phone", previous_id="byron"), ()),
    ],
)
def test_server_alone_links_names(sent, links):
    by_server = msgspec.structs.replace(sent, trust="server")

    assert extract_identity(by_server).links == links
    assert extract_identity(sent).links == (), "a browser's write key is public"


def test_link_has_smaller_identifier_first():
    assert make_link(ADA, MAIL) == make_link(MAIL, ADA) == (MAIL, ADA)
