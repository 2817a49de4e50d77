"""Links in letters: which carry for whom they were made, and which must not."""

from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest

from libs.common.link_tokens import LinkRecipient, verify_link_token
from services.orchestrator.domain.message_links import TOKEN_LIFETIME, MessageLinks
from tests.unit.orchestrator.vocabulary import DAY

KEYS = ("new-key", "old-key")
LINKS = MessageLinks(
    "https://mail.test", "secret-of-16-chars", "https://shop.test", KEYS
).valid_from(DAY)
ADA = LinkRecipient("default", "ada")
UTM = {"utm_source": "perigee", "utm_campaign": "welcome"}


def parameters(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_a_link_to_the_site_says_for_whom_it_was_made_and_for_how_long():
    text = LINKS.tag_links("Look: https://shop.test/lamps?size=2. Or not?", ADA, UTM)
    url = text.split("Look: ")[1].split(" ")[0].rstrip(".")
    assert text.endswith(". Or not?")
    found = parameters(url)
    token = found.pop("pgt")
    assert found == {"size": "2", **UTM}
    assert verify_link_token(KEYS, token, DAY) == ADA
    assert verify_link_token(KEYS[1:], token, DAY) is None
    assert verify_link_token(KEYS, token, DAY + TOKEN_LIFETIME - 1) == ADA
    assert verify_link_token(KEYS, token, DAY + TOKEN_LIFETIME) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.test.evil.example/x",
        "https://shop.test@evil.example/x",
        "http://shop.test/x",
        "https://shop.testing/x",
        "https://mail.test/u/token",
        "https://twitter.test/intent?url=https://shop.test/lamps",
        "https://evil.example/https://shop.test/lamps",
        "https://evil.example#https://shop.test/lamps",
        "https://[shop.test/x",
        "https://shop.test:8443/x",
    ],
)
def test_nobody_elses_link_carries_anything(url):
    assert LINKS.tag_links(f"see {url} now", ADA, UTM) == f"see {url} now"


def test_our_own_doors_on_the_same_host_carry_nothing():
    links = MessageLinks("https://shop.test", "secret-of-16-chars", "https://shop.test", KEYS)
    for path in ("/u/abc", "/r/code"):
        assert links.tag_links(f"https://shop.test{path}", ADA, UTM) == f"https://shop.test{path}"
    assert "pgt=" in links.tag_links("https://shop.test/rooms", ADA, UTM)


def test_in_html_an_address_stays_one():
    html = LINKS.tag_links('<a href="https://shop.test/a?b=1&amp;c=2">x</a>', ADA, UTM, html=True)
    url = html.split('"')[1]
    assert "&amp;c=2" in url
    assert html.endswith('">x</a>')
    assert parameters(unescape(url)).keys() == {"b", "c", "pgt", *UTM}


def test_what_a_link_says_already_stays():
    assert "utm_source=mine" in LINKS.tag_links("https://shop.test/?utm_source=mine", None, UTM)
    assert LINKS.tag_links("https://shop.test/?utm_source=mine", None, UTM).count("utm_source") == 1


def test_without_keys_or_a_site_links_name_nobody():
    assert "pgt" not in MessageLinks("https://m.test", "s" * 16, "https://shop.test").tag_links(
        "https://shop.test/", ADA, UTM
    )
    assert (
        MessageLinks("https://m.test", "s" * 16, "", KEYS).tag_links("https://shop.test/", ADA, UTM)
        == "https://shop.test/"
    )


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/a\r\nX: y",
        "",
    ],
)
def test_a_friends_link_leads_to_the_site_and_nowhere_else(path):
    found = LINKS.landing_url("abc", path)
    assert urlsplit(found).netloc == "shop.test"
    assert urlsplit(found).path == "/"
    assert parameters(found) == {"pgr": "abc", "utm_source": "referral", "utm_medium": "referral"}


def test_a_friends_link_may_lead_to_a_page_of_the_site():
    assert LINKS.landing_url("abc", "/lamps?x=1").startswith("https://shop.test/lamps?x=1&pgr=abc")
    assert LINKS.landing_url(None, "/lamps") == "https://shop.test/lamps"


def test_a_code_is_always_the_same_and_nobody_elses():
    codes = {LINKS.referral_code("default", f"c{number}") for number in range(1_000)}
    assert len(codes) == 1_000
    assert (
        LINKS.referral_code("default", "c1")
        == LINKS.referral_code("default", "c1")
        != LINKS.referral_code("other", "c1")
    )
    assert all(code.isalnum() and len(code) == 10 for code in codes)
