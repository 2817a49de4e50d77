"""Adapters: golden requests of each external system, and refusal of malformed events."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidMessage
from services.ingest.adapters.registry import ADAPTERS
from tests.contract.adapter_cases import (
    CASE_FILES,
    CHANNEL_RULES,
    GENERATED_ID,
    calls_of_case,
    load_case,
    touchpoint_of_adapter_call,
    touchpoints_of_case,
)


@pytest.mark.parametrize("file", CASE_FILES, ids=lambda file: file.stem)
def test_adapter_maps_golden_request(file):
    case = json.loads(file.read_text())

    calls = calls_of_case(case)

    assert calls == case["calls"]
    assert json.loads(json.dumps(calls)) == calls
    touchpoints = [touchpoint_of_adapter_call(call, case["adapter"]) for call in calls]
    message_ids = {touchpoint.message_id for touchpoint in touchpoints}
    assert len(message_ids) == len(touchpoints)
    assert GENERATED_ID not in message_ids, "ids of the event deduplicate a repeated request"


def test_every_adapter_has_golden_request():
    adapters_of_cases = {json.loads(file.read_text())["adapter"] for file in CASE_FILES}

    assert adapters_of_cases == set(ADAPTERS)


@pytest.mark.parametrize("name", sorted(ADAPTERS.keys() - {"webhook"}))
@pytest.mark.parametrize(
    "event",
    [{}, None, 3, "x", [], {"event": {}}, {"payload": 1}, {"interaction": [], "network": {}}],
)
def test_malformed_event_is_refused(name, event):
    adapter = ADAPTERS[name]

    with pytest.raises(InvalidMessage):
        [adapter.to_calls(part, {}) for part in adapter.split_events(event, {}) or [event]]


WRONG_TYPES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=3)
    | st.lists(st.integers(), max_size=2)
)


@given(st.sampled_from(CASE_FILES), st.data())
def test_mutated_event_is_mapped_or_refused(file, data):
    case = json.loads(file.read_text())
    node, keys = case, ["request"]
    while isinstance(node, dict | list) and node and data.draw(st.booleans() | st.just(True)):
        key = (
            keys[0]
            if keys
            else data.draw(
                st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node)))
            )
        )
        keys = []
        if (
            not isinstance(node[key], dict | list)
            or not node[key]
            or data.draw(st.integers(0, 3)) == 0
        ):
            node[key] = data.draw(WRONG_TYPES | st.just({}))
            break
        node = node[key]

    with contextlib.suppress(InvalidMessage):
        for call in calls_of_case(case):
            touchpoint_of_adapter_call(call)


def test_machine_opens_are_marked():
    assert [t.is_bot for t in touchpoints_of_case("sendgrid")] == [True, False, False]
    assert touchpoints_of_case("mailgun-machine-open")[0].is_bot
    assert touchpoints_of_case("postmark-open")[0].is_bot
    assert not touchpoints_of_case("mailgun-opened")[0].is_bot


def test_brand_actions_have_brand_initiative():
    mail_events = touchpoints_of_case("sendgrid")
    sales_events = touchpoints_of_case("hubspot-call") + touchpoints_of_case("hubspot-meeting")

    assert [t.initiative for t in mail_events] == ["contact", "contact", "brand"]
    assert [t.initiative for t in sales_events] == ["contact", "brand"]


def test_echo_of_own_change_has_test_mode():
    subscription_events = touchpoints_of_case("hubspot-subscription")

    assert [t.mode for t in subscription_events] == ["live", "live", "test", "test"]
    assert touchpoints_of_case("salesforce-echo")[0].mode == "test"


def test_deal_maps_contacts_amount_and_account():
    deals = touchpoints_of_case("hubspot-deal")

    assert [t.external_ids for t in deals] == [{"hubspot": "123"}, {"hubspot": "124"}]
    assert {(t.value, t.currency, t.group_id, t.channel) for t in deals} == {
        (12_000.0, "EUR", "hubspot:9", "sales")
    }
    (account_deal,) = touchpoints_of_case("salesforce-account-opportunity")
    assert (account_deal.scope, account_deal.group_id, account_deal.external_ids) == (
        "account",
        "salesforce:0011",
        {},
    )


def test_market_event_belongs_to_no_contact():
    events = touchpoints_of_case("market")

    assert [(t.scope, t.initiative, t.group_id) for t in events] == [
        ("market", "market", None),
        ("account", "market", "acme"),
    ]


def test_interview_is_declared_with_past_dates():
    answers = touchpoints_of_case("interview")

    assert {(t.evidence, t.verified_email) for t in answers} == {("declared", "ada@x.test")}
    assert answers[0].occurred_at < answers[1].occurred_at
    assert (answers[0].sentiment, answers[1].effort) == (0.5, 7.0)


def test_interview_address_of_known_user_is_unverified():
    """An address given in an interview merges no contact into the one of the user id."""
    request = load_case("interview")["request"]
    person = {"userId": "ada", "email": "office@acme.test"}

    (call, _) = ADAPTERS["interview"].to_calls({**request, "person": person}, {})

    assert touchpoint_of_adapter_call(call).verified_email is None


def test_social_interaction_maps_contact_and_post():
    interactions = touchpoints_of_case("social")

    assert [t.name for t in interactions] == [
        "Profile Followed",
        "Post Liked",
        "Post Commented",
        "Post Shared",
        "Brand Mentioned",
    ]
    assert {(t.channel, t.content_id, t.sentiment) for t in interactions} == {
        ("social", "post-9", 0.4)
    }
    assert {tuple(t.external_ids.items()) for t in interactions} == {(("linkedin", "p-1"),)}


def test_click_with_several_recipients_is_refused():
    event = load_case("resend-clicked")["request"]
    event["data"]["to"] = ["a@x.test", "b@x.test"]

    with pytest.raises(InvalidMessage, match="does not name the recipient"):
        ADAPTERS["resend"].to_calls(event, {})


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"event": "bounce", "type": "bounce"}, 1),
        ({"event": "bounce", "type": "blocked"}, 0),
        ({"event": "dropped", "reason": "Bounced Address"}, 1),
        ({"event": "dropped", "reason": "Recipient List over Package Quota"}, 0),
    ],
)
def test_only_address_faults_of_sendgrid_create_calls(change, count):
    """A message that was refused for its content or a quota proves nothing about the address."""
    events = load_case("sendgrid")["request"]
    bounce = next(event for event in events if event["event"] == "bounce")

    calls = ADAPTERS["sendgrid"].to_calls({**bounce, **change}, {})

    assert len(calls) == count


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("HardBounce", 1),
        ("BadEmailAddress", 1),
        ("SoftBounce", 0),
        ("Blocked", 0),
        ("DMARCPolicy", 0),
    ],
)
def test_only_permanent_postmark_bounces_create_calls(kind, count):
    request = load_case("postmark-bounce")["request"]

    calls = ADAPTERS["postmark"].to_calls({**request, "Type": kind}, {})

    assert len(calls) == count


SHOP = "https://shop.test/"
CALL_CONTEXTS = {
    "tweet": ("page", {"page": {"referrer": "https://t.co/x", "url": SHOP}}, "social"),
    "search": ("page", {"page": {"referrer": "https://www.google.fr/", "url": SHOP}}, "search"),
    "facebook": ("page", {"page": {"url": f"{SHOP}?fbclid=1"}}, "social"),
    "video": ("page", {"page": {"referrer": "https://youtu.be/x", "url": SHOP}}, "video"),
    "blog": ("page", {"page": {"referrer": "https://a-blog.test/post", "url": SHOP}}, "referral"),
    "newsletter": (
        "page",
        {"page": {"url": f"{SHOP}?utm_medium=newsletter&utm_source=may"}},
        "email",
    ),
    "ads": ("page", {"page": {"url": f"{SHOP}?gclid=1"}}, "ads"),
    "direct": ("page", {"page": {"url": SHOP}}, "direct"),
    "shop": ("track", {"channel": "shop"}, "shop"),
    "sales": ("track", {"channel": "sales"}, "sales"),
    "phone": ("track", {"channel": "phone"}, "phone"),
}


@pytest.mark.parametrize("origin", CALL_CONTEXTS)
@pytest.mark.capability(30)
def test_every_channel_maps_to_one_envelope(origin):
    """E-mail, social networks and CRM are covered by the golden requests of their adapters."""
    call_type, context, channel = CALL_CONTEXTS[origin]

    touchpoint = touchpoint_of_adapter_call(
        {"type": call_type, "event": "Bought", "userId": "u", "messageId": "m", "context": context}
    )

    assert touchpoint.channel == channel
    assert (touchpoint.scope, touchpoint.initiative) == ("contact", "contact")
    assert touchpoint.classifier_version == CHANNEL_RULES.version
