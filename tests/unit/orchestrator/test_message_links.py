"""Links in messages: recipient tokens and UTM parameters only on links to the site."""

from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest

from libs.common.ids import WorkspaceId
from libs.common.instants import DAY
from libs.common.link_tokens import LinkRecipient, verify_link_token
from services.orchestrator.domain.message_links import TOKEN_LIFETIME, MessageLinks

KEYS = ("new-key", "old-key")
LINKS = MessageLinks(
    "https://mail.test", "secret-of-16-chars", "https://shop.test", KEYS
).valid_from(DAY)
ADA = LinkRecipient(WorkspaceId("default"), "ada")
UTM = {"utm_source": "perigee", "utm_campaign": "welcome"}


def parameters(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_site_link_has_expiring_recipient_token():
    text = LINKS.tag_links("Look: https://shop.test/lamps?size=2. Or not?", ADA, UTM)
    url = text.split("Look: ")[1].split(" ")[0].rstrip(".")

    assert text.endswith(". Or not?")

    query = parameters(url)
    token = query.pop("pgt")
    assert query == {"size": "2", **UTM}
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
def test_foreign_link_stays_unchanged(url):
    assert LINKS.tag_links(f"see {url} now", ADA, UTM) == f"see {url} now"


def test_own_endpoints_on_site_host_stay_unchanged():
    links = MessageLinks("https://shop.test", "secret-of-16-chars", "https://shop.test", KEYS)

    for path in ("/u/abc", "/r/code"):
        assert links.tag_links(f"https://shop.test{path}", ADA, UTM) == f"https://shop.test{path}"
    assert "pgt=" in links.tag_links("https://shop.test/rooms", ADA, UTM)


def test_link_in_html_stays_escaped():
    html = LINKS.tag_links('<a href="https://shop.test/a?b=1&amp;c=2">x</a>', ADA, UTM, html=True)

    url = html.split('"')[1]

    assert "&amp;c=2" in url
    assert html.endswith('">x</a>')
    assert parameters(unescape(url)).keys() == {"b", "c", "pgt", *UTM}


def test_existing_utm_parameter_is_kept():
    assert "utm_source=mine" in LINKS.tag_links("https://shop.test/?utm_source=mine", None, UTM)
    assert LINKS.tag_links("https://shop.test/?utm_source=mine", None, UTM).count("utm_source") == 1


def test_links_without_keys_or_site_have_no_token():
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
def test_referral_link_to_foreign_path_opens_home_page(path):
    url = LINKS.landing_url("abc", path)

    assert urlsplit(url).netloc == "shop.test"
    assert urlsplit(url).path == "/"
    assert parameters(url) == {"pgr": "abc", "utm_source": "referral", "utm_medium": "referral"}


def test_referral_link_may_open_a_site_page():
    assert LINKS.landing_url("abc", "/lamps?x=1").startswith("https://shop.test/lamps?x=1&pgr=abc")
    assert LINKS.landing_url(None, "/lamps") == "https://shop.test/lamps"


def test_referral_code_is_stable_and_unique():
    codes = {LINKS.referral_code("default", f"c{number}") for number in range(1_000)}

    assert len(codes) == 1_000
    assert (
        LINKS.referral_code("default", "c1")
        == LINKS.referral_code("default", "c1")
        != LINKS.referral_code("other", "c1")
    )
    assert all(code.isalnum() and len(code) == 10 for code in codes)
