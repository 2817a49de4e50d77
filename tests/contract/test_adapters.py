"""Golden requests: what each adapter makes of what its system sends. One file per request, in tests/contract/hooks."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigurationError, InvalidMessage
from libs.common.messages import Touchpoint, decode_value
from services.ingest.adapters.registry import ADAPTERS
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object
from services.ingest.handlers.outgoing_messages import touchpoint_message
from services.ingest.settings import CHANNELS
from tests.support.encoding_paths import touchpoint_of_call

FILES = sorted((Path(__file__).parent / "hooks").glob("*.json"))
NOW = 1_790_000_000_000_000
SHIPPED = parse_channel_rules(CHANNELS.read_text(), "channels.yaml")


def made(case):
    adapter = ADAPTERS[case["adapter"]]
    if adapter.validate_settings is not None:
        adapter.validate_settings(case["settings"])
    events = adapter.split_events(case["request"], case["settings"])
    return [call for event in events for call in adapter.to_calls(event, case["settings"])]


def touchpoint(call, adapter="x"):
    source = Source("default", adapter, trust="server")
    found = touchpoint_of_call(
        call_from_object(call),
        RequestContext(source, NOW, lambda: "made-up", rules=NormalisationRules(SHIPPED)),
    )
    assert decode_value(Touchpoint, touchpoint_message(found).value) == found
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(file):
    case = json.loads(file.read_text())
    calls = made(case)
    assert calls == case["calls"]
    assert json.loads(json.dumps(calls)) == calls
    found = [touchpoint(call, case["adapter"]) for call in calls]
    assert len({t.message_id for t in found}) == len(found)
    assert all(t.message_id != "made-up" for t in found), (
        "the same request twice is known by its ids"
    )


def test_every_adapter_has_a_golden_request():
    assert {json.loads(file.read_text())["adapter"] for file in FILES} == set(ADAPTERS)


@pytest.mark.parametrize("name", sorted(ADAPTERS.keys() - {"webhook"}))
@pytest.mark.parametrize(
    "event",
    [{}, None, 3, "x", [], {"event": {}}, {"payload": 1}, {"interaction": [], "network": {}}],
)
def test_an_event_that_is_none_is_refused_with_a_reason(name, event):
    adapter = ADAPTERS[name]
    with pytest.raises(InvalidMessage):
        [adapter.to_calls(one, {}) for one in adapter.split_events(event, {}) or [event]]


def golden(name):
    return json.loads((Path(__file__).parent / "hooks" / f"{name}.json").read_text())


def of(name):
    case = golden(name)
    return [touchpoint(call, case["adapter"]) for call in made(case)]


WRONG = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=3)
    | st.lists(st.integers(), max_size=2)
)


@given(st.sampled_from(FILES), st.data())
def test_whatever_a_part_of_an_event_is_it_is_read_or_refused(file, data):
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
            node[key] = data.draw(WRONG | st.just({}))
            break
        node = node[key]
    with contextlib.suppress(InvalidMessage):
        for call in made(case):
            touchpoint(call)


def test_machine_opens_are_marked():
    assert [t.is_bot for t in of("sendgrid")] == [True, False, False]
    assert of("mailgun-opened-by-a-machine")[0].is_bot
    assert of("postmark-open")[0].is_bot
    assert not of("mailgun-opened")[0].is_bot


def test_what_the_brand_did_is_not_the_persons_doing():
    assert [t.initiative for t in of("sendgrid")] == ["contact", "contact", "brand"]
    assert [t.initiative for t in of("hubspot-call") + of("hubspot-meeting")] == [
        "contact",
        "brand",
    ]


def test_an_echo_of_our_own_is_kept_and_never_scored():
    assert [t.mode for t in of("hubspot-subscription")] == ["live", "live", "test", "test"]
    assert of("salesforce-echo")[0].mode == "test"


def test_deals_have_their_people_their_amount_and_their_account():
    found = of("hubspot-deal")
    assert [t.external_ids for t in found] == [{"hubspot": "123"}, {"hubspot": "124"}]
    assert {(t.value, t.currency, t.group_id, t.channel) for t in found} == {
        (12_000.0, "EUR", "hubspot:9", "sales")
    }
    (deal,) = of("salesforce-opportunity-of-an-account")
    assert (deal.scope, deal.group_id, deal.external_ids) == ("account", "salesforce:0011", {})


def test_the_market_is_nobody():
    assert [(t.scope, t.initiative, t.group_id) for t in of("market")] == [
        ("market", "market", None),
        ("account", "market", "acme"),
    ]


def test_an_interview_is_declared_and_dated_back():
    found = of("interview")
    assert {(t.evidence, t.verified_email) for t in found} == {("declared", "ada@x.test")}
    assert found[0].occurred_at < found[1].occurred_at
    assert (found[0].sentiment, found[1].effort) == (0.5, 7.0)


def test_a_social_interaction_has_its_person_and_its_post():
    found = of("social")
    assert [t.name for t in found] == [
        "Profile Followed", "Post Liked", "Post Commented", "Post Shared", "Brand Mentioned",
    ]  # fmt: skip
    assert {(t.channel, t.content_id, t.sentiment) for t in found} == {("social", "post-9", 0.4)}
    assert {tuple(t.external_ids.items()) for t in found} == {(("linkedin", "p-1"),)}


CALL = {"call": {"type": "track"}}


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({}, "mapping.calls"),
        ({"calls": []}, "mapping.calls"),
        ({"calls": [CALL], "every": "x"}, "every is not known"),
        ({"calls": [CALL], "each": "a..b"}, "mapping.each"),
        ({"calls": [CALL], "otherwise": "drop"}, "mapping.otherwise"),
        ({"calls": [CALL, {"call": 3}]}, "mapping.calls[1].call"),
        ({"calls": [{**CALL, "if": {}}]}, "mapping.calls[0]"),
        ({"calls": [{**CALL, "when": {"a[x]": 1}}]}, "mapping.calls[0].when"),
        ({"calls": [{"call": {"userId": {"path": "a["}}}]}, "mapping.calls[0].call.userId.path"),
    ],
)
def test_a_wrong_mapping_is_refused_naming_the_place(settings, place):
    with pytest.raises(ConfigurationError) as error:
        ADAPTERS["webhook"].validate_settings(settings)
    assert place in str(error.value)


def test_an_event_without_a_rule_is_refused_unless_it_is_to_be_ignored():
    settings = {"calls": [{"when": {"type": "a"}, **CALL}]}
    with pytest.raises(InvalidMessage, match="no call"):
        ADAPTERS["webhook"].to_calls({"type": "b"}, settings)
    assert ADAPTERS["webhook"].to_calls({"type": "b"}, {**settings, "otherwise": "ignore"}) == []
    with pytest.raises(InvalidMessage, match="no list"):
        ADAPTERS["webhook"].split_events({"events": {}}, {**settings, "each": "events"})


WHERE_THEY_CAME_FROM = {
    "tweet": ("page", {"referrer": "https://t.co/x", "url": "https://shop.test/"}, "social"),
    "search": (
        "page",
        {"referrer": "https://www.google.fr/", "url": "https://shop.test/"},
        "search",
    ),
    "facebook": ("page", {"url": "https://shop.test/?fbclid=1"}, "social"),
    "video": ("page", {"referrer": "https://youtu.be/x", "url": "https://shop.test/"}, "video"),
    "blog": (
        "page",
        {"referrer": "https://a-blog.test/post", "url": "https://shop.test/"},
        "referral",
    ),
    "newsletter": (
        "page",
        {"url": "https://shop.test/?utm_medium=newsletter&utm_source=may"},
        "email",
    ),
    "ads": ("page", {"url": "https://shop.test/?gclid=1"}, "ads"),
    "direct": ("page", {"url": "https://shop.test/"}, "direct"),
    "shop": ("track", "shop", "shop"),
    "sales": ("track", "sales", "sales"),
    "phone": ("track", "phone", "phone"),
}


@pytest.mark.parametrize("place", WHERE_THEY_CAME_FROM)
@pytest.mark.capability(30)
def test_one_envelope_whatever_the_channel(place):
    """Row 30; e-mail, social and CRM are the adapters' golden requests."""
    kind, said, channel = WHERE_THEY_CAME_FROM[place]
    context = {"channel": said} if isinstance(said, str) else {"page": said}
    found = touchpoint(
        {"type": kind, "event": "Bought", "userId": "u", "messageId": "m", "context": context}
    )
    assert (found.channel, found.scope, found.initiative, found.classifier_version) == (
        channel, "contact", "contact", SHIPPED.version,
    )  # fmt: skip


def test_two_rules_for_one_event_are_two_touchpoints_and_a_retry_is_none():
    settings = {"calls": [{"call": {"type": "identify", "userId": {"path": "u"}, "messageId": {"path": "id"}}},
                          {"call": {"type": "track", "event": "Paid", "userId": {"path": "u"}, "messageId": {"path": "id"}}},
                          {"call": {"type": "track", "event": "Seen", "userId": {"path": "u"}}}]}  # fmt: skip
    calls = ADAPTERS["webhook"].to_calls({"u": "ada", "id": "e-1"}, settings)
    assert calls == ADAPTERS["webhook"].to_calls({"u": "ada", "id": "e-1"}, settings)
    ids = [call["messageId"] for call in calls]
    assert ids[:2] == ["e-1", "e-1:1"]
    assert len(set(ids)) == 3


def test_an_address_given_in_an_interview_joins_nobody_to_the_one_who_is_known():
    case = golden("interview")["request"]
    (call, _) = ADAPTERS["interview"].to_calls(
        {**case, "person": {"userId": "ada", "email": "office@acme.test"}}, {}
    )
    assert touchpoint(call).verified_email is None


def test_what_one_of_several_mailboxes_did_is_nobodys():
    event = golden("resend-clicked")["request"]
    event["data"]["to"] = ["a@x.test", "b@x.test"]
    with pytest.raises(InvalidMessage, match="does not name the recipient"):
        ADAPTERS["resend"].to_calls(event, {})


@pytest.mark.parametrize(
    ("file", "change", "count"),
    [
        ("sendgrid", {"event": "bounce", "type": "bounce"}, 1),
        ("sendgrid", {"event": "bounce", "type": "blocked"}, 0),
        ("sendgrid", {"event": "dropped", "reason": "Bounced Address"}, 1),
        ("sendgrid", {"event": "dropped", "reason": "Recipient List over Package Quota"}, 0),
    ],
)
def test_a_letter_that_was_refused_for_its_own_sake_says_nothing_of_the_address(
    file, change, count
):
    case = json.loads((Path(__file__).parent / "hooks" / f"{file}.json").read_text())
    event = {**next(one for one in case["request"] if one["event"] == "bounce"), **change}
    assert len(ADAPTERS[file].to_calls(event, {})) == count


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
def test_a_bounce_of_postmarks_that_may_pass_says_nothing_of_the_address(kind, count):
    case = json.loads((Path(__file__).parent / "hooks" / "postmark-bounce.json").read_text())
    assert len(ADAPTERS["postmark"].to_calls({**case["request"], "Type": kind}, {})) == count
