"""Perigee's tracker in headless Chromium, on a page of another origin. `make test-sdks` runs it."""

import re
import shutil

import pytest

from libs.common import link_tokens
from libs.common.clock import SystemClock
from tests.sdks.demo_shop import open_browser
from tests.sdks.expected import types_and_names

pytestmark = pytest.mark.timeout(180)


async def test_visit_sends_pages_clicks_and_forms(shop):
    page = await shop.open("/?utm_source=newsletter&utm_medium=email&utm_campaign=spring")
    for button in ("#ask", "#send", "#enter", "#near"):
        await page.click(button)
    await page.wait_for_url("**/next.html")
    await page.evaluate("document.addEventListener('click', e => e.preventDefault())")
    await page.click("#out")
    await page.click("#file")

    touchpoints = await shop.sent(9)

    assert types_and_names(touchpoints) == [
        ("page", ""), ("track", "Quote Asked"), ("identify", ""), ("identify", ""),
        ("track", "Paper Asked"), ("track", "Form Submitted"), ("page", ""),
        ("track", "Link Clicked"), ("track", "File Downloaded"),
    ]  # fmt: skip
    assert len({t.anonymous_id for t in touchpoints}) == 1
    assert {tuple(sorted(t.campaign.items())) for t in touchpoints} == {
        (("medium", "email"), ("name", "spring"), ("source", "newsletter"))
    }
    assert touchpoints[3].traits == {"email": "ada@x.test", "company": "Acme"}
    assert touchpoints[3].consent == {"email": True}
    assert touchpoints[-2].properties == {"url": "https://elsewhere.test/prices", "text": "Prices"}
    assert touchpoints[-3].context["page"]["referrer"].startswith(shop.origin)
    assert (touchpoints[0].locale, touchpoints[0].device_class, touchpoints[0].page_path) == (
        "en-US",
        "computer",
        "/",
    )
    assert "s3cret" not in repr(touchpoints)


async def test_history_navigation_is_page_view(shop):
    page = await shop.open()
    await page.evaluate("history.pushState({}, '', '/a'); history.replaceState({}, '', '/b')")
    await page.wait_for_timeout(50)
    await page.evaluate("history.pushState({}, '', '/c')")
    await page.wait_for_timeout(50)
    await page.go_back()
    await page.wait_for_timeout(50)

    touchpoints = await shop.sent(4)

    assert [t.page_path for t in touchpoints] == ["/", "/b", "/c", "/b"]
    assert touchpoints[2].context["page"]["referrer"] == f"{shop.origin}/b"


async def test_calls_before_load_are_sent(shop):
    shop.write("async")
    for path, (html, rule) in shop.pages.items():
        shop.pages[path] = (
            f"<script>window.perigee = [['track', 'Early', {{n: 1}}]]</script>{html}",
            rule,
        )

    await shop.open()

    assert types_and_names(await shop.sent(2)) == [("page", ""), ("track", "Early")]


async def test_identify_without_user_id_sends_traits(shop):
    page = await shop.open()
    await page.evaluate(
        "perigee.identify(null, {plan: 'pro'}); perigee.identify(undefined, {plan: 'max'})"
    )

    touchpoints = await shop.sent(3)

    assert [(t.user_id, t.traits) for t in touchpoints[1:]] == [
        (None, {"plan": "pro"}),
        (None, {"plan": "max"}),
    ]


async def test_call_at_page_exit_is_sent(shop):
    page = await shop.open()
    await page.evaluate("addEventListener('pagehide', () => perigee.track('Last'), true)")
    await page.click("#near")
    await page.wait_for_url("**/next.html")

    touchpoints = await shop.sent(3)

    assert sorted(types_and_names(touchpoints)) == [("page", ""), ("page", ""), ("track", "Last")]


async def test_back_forward_cache_restore_is_page_view(shop):
    page = await shop.open()
    await page.evaluate(
        "addEventListener('pageshow', e => { if (e.persisted) perigee.track('Was kept') })"
    )
    await page.click("#near")
    await page.wait_for_url("**/next.html")
    # The driver does not see a page that returns from the cache, so the page itself goes back.
    await page.evaluate("setTimeout(() => history.back())")

    touchpoints = await shop.sent(4)

    assert [(t.page_path, t.name) for t in touchpoints] == [
        ("/", ""),
        ("/next.html", ""),
        ("/", ""),
        ("/", "Was kept"),
    ]


async def test_signed_link_identifies_its_recipient(shop, link_keys):
    now = SystemClock().now()
    tokens = {
        "good": link_tokens.sign_link_token(
            link_keys, link_tokens.LinkRecipient("default", user_id="u-7"), now + 60_000_000
        ),
        "mail": link_tokens.sign_link_token(
            link_keys[1:],
            link_tokens.LinkRecipient("default", email="ada@x.test"),
            now + 60_000_000,
        ),
        "old": link_tokens.sign_link_token(
            link_keys, link_tokens.LinkRecipient("default", user_id="u-8"), now - 1
        ),
        "forged": link_tokens.sign_link_token(
            ["guessed"], link_tokens.LinkRecipient("default", user_id="u-9"), now + 60_000_000
        ),
    }
    for count, token in enumerate(tokens.values(), 1):
        page = await shop.open(f"/?a=1&{link_tokens.LINK_PARAMETER}={token}#here")
        assert page.url == f"{shop.origin}/?a=1#here"
        await page.evaluate("perigee.flush()")
        await shop.sent(2 * count)
        await page.close()

    touchpoints = await shop.sent(8)

    assert [(t.user_id, t.verified_email) for t in touchpoints if t.type == "identify"] == [
        ("u-7", None), (None, "ada@x.test"), (None, None), (None, None),
    ]  # fmt: skip
    assert not any(token in repr(touchpoints) for token in tokens.values())
    assert len({t.anonymous_id for t in touchpoints}) == 1


async def test_pixel_is_sent_without_javascript(shop):
    program = shutil.which("chromium") or "chromium"
    async with open_browser(program, java_script_enabled=False) as context:
        page = await context.new_page()
        await page.goto(shop.origin + "/next.html")

    (page_view,) = await shop.sent(1)

    assert (page_view.type, page_view.device_class) == ("page", "computer")
    # Without a path: browsers send other origins no more than the origin.
    assert page_view.context["page"]["url"].startswith(shop.origin)


async def test_domain_cookie_keeps_anonymous_id(shop):
    shop.write("data-domain=localhost")
    origin = shop.origin.replace("127.0.0.1", "localhost")
    page = await shop.context.new_page()
    await page.goto(origin + "/")
    await page.wait_for_function("window.perigee && perigee.version")

    first_id = await page.evaluate("perigee.anonymousId()")

    assert re.search(f"perigee_id={first_id}", await page.evaluate("document.cookie"))

    await page.evaluate("localStorage.clear()")
    await page.reload()

    assert await page.evaluate("perigee.anonymousId()") == first_id


async def test_reset_applies_to_other_tabs(shop):
    first_tab, second_tab = await shop.open(), await shop.open()
    await first_tab.evaluate("perigee.identify('ada'); perigee.group('acme')")
    await second_tab.evaluate("perigee.track('Before')")
    await first_tab.evaluate("perigee.reset()")
    await second_tab.evaluate("perigee.track('After')")

    tracks = {t.name: t for t in await shop.sent(6) if t.type == "track"}

    assert (tracks["Before"].user_id, tracks["Before"].group_id) == ("ada", "acme")
    assert (tracks["After"].user_id, tracks["After"].group_id) == (None, None)
    assert tracks["After"].anonymous_id != tracks["Before"].anonymous_id


async def test_signed_link_overrides_remembered_user(shop, link_keys):
    page = await shop.open()
    await page.evaluate("perigee.identify('ada')")
    token = link_tokens.sign_link_token(
        link_keys,
        link_tokens.LinkRecipient("default", user_id="bob"),
        SystemClock().now() + 60_000_000,
    )
    await page.close()
    await shop.open(f"/?{link_tokens.LINK_PARAMETER}={token}")

    touchpoints = [t for t in await shop.sent(4) if t.type == "identify"]

    assert [t.user_id for t in touchpoints] == ["ada", "bob"]
