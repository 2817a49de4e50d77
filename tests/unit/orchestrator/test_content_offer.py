"""Content that an action offers: the fitting item of its types, its fallback, or nothing."""

import pytest

from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.gate_request import offer_content
from tests.unit.orchestrator.builders import contact_facts, email_action

READER = contact_facts()


def content_item(name, content_type, **fields):
    return ContentItem(
        content=name, type=content_type, title=name, url=f"https://x.test/{name}", **fields
    )


ITEMS = [
    content_item("alps", "guide"),
    content_item("basics", "video", channels=["email"], priority=5),
    content_item("intro", "guide", channels=["webhook"], priority=9),
    content_item("offer", "discount"),
]
"""`intro` is for another channel, `offer` is too early for a contact in investigation."""


def offered(contact=READER, items=ITEMS, **request):
    """Return the name of the content that an e-mail action with a content request offers."""
    action = ActionSpec(**email_action(content=request))
    item = offer_content(action, items, contact).item
    return item and item.content


@pytest.mark.parametrize(
    ("request_fields", "expected"),
    [
        ({}, "basics"),
        ({"types": ["guide"]}, "alps"),
        ({"types": ["guide", "video"]}, "basics"),
        ({"types": ["discount"]}, None),
        ({"types": ["discount"], "fallback": "alps"}, "alps"),
        ({"types": ["discount"], "override_gate": True}, "offer"),
    ],
)
def test_action_offers_best_content_of_its_types(request_fields, expected):
    assert offered(**request_fields) == expected


def test_seen_content_is_not_offered_again():
    contact = contact_facts(seen_content={"basics": 0})

    assert offered(contact) == "alps"


def test_action_without_content_offers_none():
    choice = offer_content(ActionSpec(**email_action()), ITEMS, READER)

    assert choice.item is None
    assert choice.reasons == []


def test_refused_content_has_its_reasons():
    action = ActionSpec(**email_action(content={"types": ["discount"]}))

    choice = offer_content(action, ITEMS, READER)

    assert choice.reasons == [
        "offer: too early: discount from validation on, the contact is at investigation",
        "no content fits, and there is no fallback",
    ]
