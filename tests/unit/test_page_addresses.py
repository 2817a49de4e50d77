"""Addresses of pages in calls: the referral code is read, the link token is removed."""

import pytest

from tests.unit.test_normalise import got


@pytest.mark.parametrize(
    ("page", "properties", "code"),
    [
        ({"url": "https://shop.example/lamps?pgr=abc&x=1"}, {}, "abc"),
        ({"search": "?x=1&pgr=abc"}, {}, "abc"),
        ({"url": "https://shop.example/?pgr="}, {}, None),
        ({"url": "https://shop.example/?x=pgr=1"}, {}, None),
        ({"url": 7, "search": None}, {}, None),
        ({"url": "https://shop.example/?pgr=abc"}, {"referral_code": "typed"}, "typed"),
    ],
)
def test_referral_code_of_the_address_becomes_a_property(page, properties, code):
    found = got(
        {"type": "page", "userId": "u", "properties": properties, "context": {"page": page}}
    )

    assert found.properties.get("referral_code") == code


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://x.test/a?pgt=TOKEN", "https://x.test/a"),
        ("https://x.test/a?pgt=TOKEN&b=1", "https://x.test/a?b=1"),
        ("https://x.test/a?b=1&pgt=TOKEN", "https://x.test/a?b=1"),
        ("https://x.test/a?b=1&pgt=TOKEN#top", "https://x.test/a?b=1&#top"),
        ("https://x.test/a?xpgt=1", "https://x.test/a?xpgt=1"),
        ("pgt=TOKEN", ""),
        ("https://x.test/a?b=1&amp;pgt=TOK-EN_1.x~", "https://x.test/a?b=1&amp;"),
        ("https://x.test/?next=%2Fp%3Fpgt%3DTOKEN", "https://x.test/?next=%2Fp%3F"),
        ("we pgt things", "we pgt things"),
        (7, 7),
    ],
)
def test_link_tokens_are_stripped_from_addresses(given, kept):
    properties = {"url": given, "link_url": given}

    found = got(
        {
            "type": "page",
            "userId": "u",
            "properties": properties,
            "context": {"page": {"url": given}},
        }
    )

    assert (
        found.properties["url"],
        found.properties["link_url"],
        found.context["page"]["url"],
    ) == (kept,) * 3
