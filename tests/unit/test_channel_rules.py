"""Enrichment from the message alone: channel, bot and device, value; with the shipped rules."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.home import PROJECT
from libs.common.errors import ConfigurationError
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.enrichment import enrich_client, enrich_page, extract_valuation
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object
from tests.support.encoding_paths import touchpoint_of_call

TEXT = (PROJECT / "services" / "ingest" / "channels.yaml").read_text()
SHIPPED = parse_channel_rules(TEXT, "channels.yaml")
SITE = "https://shop.example/lamp"
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0 Safari/537.36"
)


def enriched_touchpoint(properties=None, *, server=False, call="page", **context):
    """Return the touchpoint of a call with these properties and this context."""
    body = {
        "type": call,
        "event": "x",
        "userId": "u",
        "properties": properties or {},
        "context": context,
    }
    source = Source("default", "web", trust="server" if server else "public")
    return touchpoint_of_call(
        call_from_object(body),
        RequestContext(source, 1, lambda: "generated", rules=NormalisationRules(SHIPPED)),
    )


def page(referrer="", search="", url=SITE):
    return {"url": url + search, "search": search, "referrer": referrer, "path": "/lamp"}


@pytest.mark.parametrize(
    ("given_page", "campaign", "channel"),
    [
        (page(), {}, "direct"),
        (page("https://shop.example/"), {}, ""),
        (page("https://www.google.fr/"), {}, "search"),
        (page("https://news.google.com/"), {}, "search"),
        (page("https://mail.google.com/mail"), {}, "email"),
        (page("https://duckduckgo.com/"), {}, "search"),
        (page("https://l.facebook.com/l.php"), {}, "social"),
        (page("https://m.youtube.com/watch"), {}, "video"),
        (page("https://blog.friend.example/post"), {}, "referral"),
        (page("https://notgoogle.example.com/"), {}, "referral"),
        (page("https://google.evil.example.com/"), {}, "referral"),
        (page("https://www.google.com/", "?gclid=1"), {}, "ads"),
        (page("https://l.facebook.com/", "?fbclid=1"), {}, "social"),
        (page("", "?utm_source=news&utm_medium=email"), {}, "email"),
        (page("https://www.google.com/", "?utm_medium=cpc&gclid=1"), {}, "ads"),
        (page("https://www.google.com/", "?utm_medium=affiliate"), {}, "partner"),
        (page("", "?utm_source=facebook"), {}, "social"),
        (page("", "?utm_source=nobody&utm_medium=smoke"), {}, "other"),
        (page("https://www.google.com/"), {"medium": "Email", "source": "x"}, "email"),
        ({}, {"medium": "podcast"}, "audio"),
        ({}, {}, ""),
        (page("http://[broken"), {}, "referral"),
        (page("https://www.google.co.uk/"), {}, "search"),
        (page("https://google.anything.com/"), {}, "referral"),
        (page("https://accounts.google.com/"), {}, "referral"),
        (page("https://docs.google.com/d/1"), {}, "referral"),
        (page("android-app://com.google.android.gm/"), {}, "email"),
        (page("", "?utm_source=chatgpt.com"), {}, "search"),
        (page("", "?utm_source=facebook.com&utm_medium=unheard"), {}, "social"),
        (page("", "?utm_medium=Paid%20Social"), {}, "ads"),
        (page("https://" + "a." * 900 + "google.com/"), {}, "referral"),
    ],
)
def test_page_and_campaign_decide_channel(given_page, campaign, channel):
    actual = enriched_touchpoint(page=given_page, campaign=campaign).channel

    assert actual == (channel if "[broken" not in str(given_page) else "")


def test_only_servers_set_a_known_channel():
    assert enriched_touchpoint(server=True, channel="sales", page=page()).channel == "sales"
    assert enriched_touchpoint(server=False, channel="sales", page=page()).channel == "direct"
    assert enriched_touchpoint(server=True, channel="server", page=page()).channel == "direct"


def test_only_page_calls_are_direct():
    assert enriched_touchpoint(call="track", page=page()).channel == ""
    assert enriched_touchpoint(call="track", page=page("https://bing.com")).channel == "search"


@pytest.mark.capability(36)
def test_campaign_has_five_utm_fields():
    search = "?utm_source=a&utm_medium=email&utm_campaign=spring&utm_term=t&utm_content=c&utm_id=7"

    campaign = enriched_touchpoint(page=page("", search)).campaign

    assert campaign == {
        "source": "a",
        "medium": "email",
        "name": "spring",
        "term": "t",
        "content": "c",
    }


@pytest.mark.parametrize(
    ("agent", "bot", "device"),
    [
        (CHROME, False, "computer"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148", False, "phone"),
        ("Mozilla/5.0 (iPad; CPU OS 18_0)", False, "tablet"),
        ("Mozilla/5.0 (Linux; Android 15; Pixel 9) Mobile Safari/537.36", False, "phone"),
        ("Mozilla/5.0 (Linux; Android 15; Tab S9) Safari/537.36", False, "tablet"),
        (
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            True,
            "computer",
        ),
        ("Mozilla/5.0 HeadlessChrome/140.0", True, "computer"),
        ("Mozilla/5.0 (Windows NT 10.0) GoogleImageProxy", True, "computer"),
        ("curl/8.5.0", True, "computer"),
        (None, False, ""),
    ],
)
def test_user_agent_decides_bot_and_device_class(agent, bot, device):
    touchpoint = enriched_touchpoint(userAgent=agent)

    assert (touchpoint.is_bot, touchpoint.device_class) == (bot, device)


@pytest.mark.parametrize(
    ("properties", "value", "currency"),
    [
        ({"value": 3}, 3.0, ""),
        ({"revenue": "19.90", "currency": "eur"}, 19.9, "EUR"),
        ({"total": 0}, 0.0, ""),
        ({"value": "much", "total": 5}, 5.0, ""),
        ({"value": True, "currency": "euros"}, None, ""),
        ({"value": "nan"}, None, ""),
        ({}, None, ""),
    ],
)
def test_properties_give_value_and_currency(properties, value, currency):
    touchpoint = enriched_touchpoint(properties)

    assert (touchpoint.value, touchpoint.currency) == (value, currency)


def test_missing_sentiment_and_effort_are_none():
    assert (enriched_touchpoint().sentiment, enriched_touchpoint().effort) == (None, None)

    rated = enriched_touchpoint({"sentiment": -0.5, "effort": 0})

    assert (rated.sentiment, rated.effort) == (-0.5, 0.0)
    assert (
        enriched_touchpoint({"sentiment": -3, "effort": "hard"}).sentiment,
        enriched_touchpoint({"effort": 11}).effort,
    ) == (
        None,
        None,
    )


def test_content_page_locale_and_timezone_are_extracted():
    touchpoint = enriched_touchpoint(
        {"content": {"id": "c-1", "type": "case_study"}},
        page=page(),
        locale="fr-FR",
        timezone="Europe/Paris",
    )

    assert (touchpoint.content_id, touchpoint.content_type) == ("c-1", "case_study")
    assert (touchpoint.page_path, touchpoint.locale, touchpoint.timezone) == (
        "/lamp",
        "fr-FR",
        "Europe/Paris",
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("mediums:", "media:"), "media"),
        (("[sms, text]", "[sms, cpc]"), "'cpc' stands under ads and under sms"),
        (('version: "2"', "version: 2"), "version"),
        (("mediums:", "- mediums:"), "channels.yaml"),
    ],
)
def test_invalid_channel_rules_error_names_key(change, error):
    with pytest.raises(ConfigurationError, match=error):
        parse_channel_rules(TEXT.replace(*change), "channels.yaml")


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda c: st.lists(c) | st.dictionaries(st.text(), c),
)
_FIELDS = st.sampled_from(
    ["page", "campaign", "userAgent", "channel", "referrer", "device", "locale", "content"]
)


@given(
    st.dictionaries(st.sampled_from(["value", "currency", "sentiment", "content", "effort"]), _JSON)
)
def test_valuation_accepts_any_properties(properties):
    extract_valuation(properties)


@given(
    st.dictionaries(
        _FIELDS,
        _JSON
        | st.fixed_dictionaries({"url": st.text(), "referrer": st.text(), "search": st.text()}),
    )
)
def test_enrichment_accepts_any_context(context):
    enrich_client(SHIPPED, context, server=True)
    enrich_page(SHIPPED, context)


def test_phone_model_with_bot_in_name_is_human():
    android = (
        "Mozilla/5.0 (Linux; Android 11; {}) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36"
    )

    assert not enriched_touchpoint(userAgent=android.format("CUBOT NOTE 20")).is_bot
    assert enriched_touchpoint(
        userAgent=android.format("CUBOT NOTE 20") + " (compatible; SomeBot/1.0)"
    ).is_bot


def test_host_lookup_tries_last_labels_only():
    looked_up = []

    class Hosts(dict):
        def get(self, name, default=None):
            looked_up.append(name)
            return super().get(name, default)

    channels = msgspec.structs.replace(SHIPPED, hosts=Hosts(SHIPPED.hosts))

    assert channels.channel_for_host("x." * 100 + "bing.com") == "search"
    assert len(looked_up) < 20, "a long host name costs no more lookups than a usual one"
