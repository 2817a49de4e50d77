"""Perigee's own tracker in real headless Chromium, on a page of another origin. `make test-sdks` runs it."""

import asyncio
import re
import shutil
from functools import partial

import pytest

from libs.common import link_tokens
from libs.common.clock import SystemClock
from tests.sdks.demo_shop import opened
from tests.sdks.faulty_proxy import Road

pytestmark = pytest.mark.timeout(180)


def said(found):
    return [(t.type, t.name) for t in found]


async def test_a_visit(shop):
    page = await shop.open("/?utm_source=letter&utm_medium=email&utm_campaign=spring")
    for button in ("#ask", "#send", "#enter", "#near"):
        await page.click(button)
    await page.wait_for_url("**/next.html")
    await page.evaluate("document.addEventListener('click', e => e.preventDefault())")
    await page.click("#out")
    await page.click("#file")
    found = await shop.sent(10)
    assert said(found) == [
        ("page", ""), ("track", "Quote Asked"), ("identify", ""), ("identify", ""), ("track", "Paper Asked"),
        ("track", "Form Submitted"), ("page", ""), ("track", "Link Clicked"), ("track", "File Downloaded"),
    ]  # fmt: skip
    assert len({t.anonymous_id for t in found}) == 1
    assert {tuple(sorted(t.campaign.items())) for t in found} == {
        (("medium", "email"), ("name", "spring"), ("source", "letter"))
    }
    assert found[3].traits == {"email": "ada@x.test", "company": "Acme"}
    assert found[3].consent == {"email": True}
    assert found[-2].properties == {"url": "https://elsewhere.test/prices", "text": "Prices"}
    assert found[-3].context["page"]["referrer"].startswith(shop.origin)
    assert (found[0].locale, found[0].device_class, found[0].page_path) == (
        "en-US",
        "computer",
        "/",
    )
    assert "s3cret" not in repr(found)


async def test_a_page_that_goes_on_by_itself(shop):
    page = await shop.open()
    await page.evaluate("history.pushState({}, '', '/a'); history.replaceState({}, '', '/b')")
    await page.wait_for_timeout(50)
    await page.evaluate("history.pushState({}, '', '/c')")
    await page.wait_for_timeout(50)
    await page.go_back()
    await page.wait_for_timeout(50)
    found = await shop.sent(4)
    assert [t.page_path for t in found] == ["/", "/b", "/c", "/b"]
    assert found[2].context["page"]["referrer"] == f"{shop.origin}/b"


async def test_calls_before_it_has_loaded_are_kept(shop):
    shop.write("async")
    for path, (html, rule) in shop.pages.items():
        shop.pages[path] = (
            f"<script>window.perigee = [['track', 'Early', {{n: 1}}]]</script>{html}",
            rule,
        )
    await shop.open()
    assert said(await shop.sent(2)) == [("page", ""), ("track", "Early")]


async def test_traits_of_somebody_without_a_name(shop):
    page = await shop.open()
    await page.evaluate(
        "perigee.identify(null, {plan: 'pro'}); perigee.identify(undefined, {plan: 'max'})"
    )
    found = await shop.sent(3)
    assert [(t.user_id, t.traits) for t in found[1:]] == [
        (None, {"plan": "pro"}),
        (None, {"plan": "max"}),
    ]


async def test_what_is_taken_offline_is_sent_later_by_this_page_or_the_next(shop):
    page = await shop.open()
    await shop.sent(1)
    await shop.context.set_offline(True)
    tried = []
    page.on("requestfailed", lambda one: tried.append(one.url))
    await page.evaluate("perigee.track('Off 1')")
    while (
        len(tried) < 2
    ):  # the next time is seconds away: as a page closes, the browser forgets that it is offline
        await page.wait_for_timeout(50)
    await page.evaluate("perigee.track('Off 2')")
    await page.close()
    assert len(await shop.sent(0)) == 1
    await shop.context.set_offline(False)
    page = await shop.open("/next.html")
    found = await shop.sent(4)
    assert said(found) == [("page", ""), ("track", "Off 1"), ("track", "Off 2"), ("page", "")]
    assert found[1].occurred_at < found[3].occurred_at - 1_000_000
    await page.wait_for_function(
        "!Object.keys(localStorage).some(name => name.includes('queue'))", timeout=5_000
    )


async def test_what_is_taken_as_the_page_is_left_is_sent(shop):
    page = await shop.open()
    await page.evaluate("addEventListener('pagehide', () => perigee.track('Last'), true)")
    await page.click("#near")
    await page.wait_for_url("**/next.html")
    found = await shop.sent(3)
    assert sorted(said(found)) == [("page", ""), ("page", ""), ("track", "Last")]


async def test_a_page_from_the_browsers_cache_is_a_page_view(shop):
    page = await shop.open()
    await page.evaluate(
        "addEventListener('pageshow', e => { if (e.persisted) perigee.track('Was kept') })"
    )
    await page.click("#near")
    await page.wait_for_url("**/next.html")
    await page.evaluate(
        "setTimeout(() => history.back())"
    )  # the driver does not see a page come back from the cache
    found = await shop.sent(4)
    assert [(t.page_path, t.name) for t in found] == [
        ("/", ""),
        ("/next.html", ""),
        ("/", ""),
        ("/", "Was kept"),
    ]


async def test_a_mean_road(shop):
    """An answer that is lost, a request that comes twice, a 429: each touchpoint is there once."""
    road = await asyncio.to_thread(Road, shop.door.ingest_url)
    try:
        shop.write(host=road.url)
        page = await shop.open()
        for turn in range(4):
            await page.evaluate(f"perigee.track('Ping', {{n: {turn}}}); perigee.flush()")
            await page.wait_for_timeout(300)
        found = await shop.sent(5, 40)
        await page.wait_for_timeout(2_000)
        found = await shop.sent(5)
        assert [t.properties["n"] for t in found if t.name == "Ping"] == [0, 1, 2, 3]
        assert (road.lost, road.twice) == (1, 1)
    finally:
        road.close()


async def test_a_link_that_was_made_for_somebody(shop, linked):
    now = SystemClock().now()
    tokens = {
        "good": link_tokens.sign_link_token(
            linked, link_tokens.LinkRecipient("default", user_id="u-7"), now + 60_000_000
        ),
        "mail": link_tokens.sign_link_token(
            linked[1:], link_tokens.LinkRecipient("default", email="ada@x.test"), now + 60_000_000
        ),
        "old": link_tokens.sign_link_token(
            linked, link_tokens.LinkRecipient("default", user_id="u-8"), now - 1
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
    found = await shop.sent(8)
    assert [(t.user_id, t.verified_email) for t in found if t.type == "identify"] == [
        ("u-7", None), (None, "ada@x.test"), (None, None), (None, None),
    ]  # fmt: skip
    assert not any(token in repr(found) for token in tokens.values())
    assert len({t.anonymous_id for t in found}) == 1


async def test_where_no_script_runs_the_picture_tells(shop):
    program = shutil.which("chromium") or "chromium"
    async with opened(program, java_script_enabled=False) as context:
        page = await context.new_page()
        await page.goto(shop.origin + "/next.html")
    (seen,) = await shop.sent(1)
    assert (seen.type, seen.device_class) == ("page", "computer")
    assert seen.context["page"]["url"].startswith(
        shop.origin
    )  # no path: browsers tell other origins no more


async def test_a_cookie_for_all_hosts_of_a_domain(shop):
    shop.write("data-domain=localhost")
    origin = shop.origin.replace("127.0.0.1", "localhost")
    page = await shop.context.new_page()
    await page.goto(origin + "/")
    await page.wait_for_function("window.perigee && perigee.version")
    first = await page.evaluate("perigee.anonymousId()")
    assert re.search(f"perigee_id={first}", await page.evaluate("document.cookie"))
    await page.evaluate("localStorage.clear()")
    await page.reload()
    assert await page.evaluate("perigee.anonymousId()") == first


async def test_a_tab_switch_while_the_door_is_away_loses_nothing(shop):
    road = await asyncio.to_thread(partial(Road, shop.door.ingest_url, mean=False))
    try:
        shop.write(host=road.url)
        road.away = True
        page = await shop.open()
        await page.evaluate("perigee.track('Order Completed')")
        hide = "Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true});"
        await page.evaluate(hide + "document.dispatchEvent(new Event('visibilitychange'))")
        await page.wait_for_timeout(500)
        assert await shop.sent(0) == []
        road.away = False
        assert sorted(said(await shop.sent(2))) == [("page", ""), ("track", "Order Completed")]
    finally:
        road.close()


async def test_who_logs_out_in_one_tab_is_nobody_in_the_other(shop):
    one, other = await shop.open(), await shop.open()
    await one.evaluate("perigee.identify('ada'); perigee.group('acme')")
    await other.evaluate("perigee.track('Before')")
    await one.evaluate("perigee.reset()")
    await other.evaluate("perigee.track('After')")
    found = {t.name: t for t in await shop.sent(6) if t.type == "track"}
    assert (found["Before"].user_id, found["Before"].group_id) == ("ada", "acme")
    assert (found["After"].user_id, found["After"].group_id) == (None, None)
    assert found["After"].anonymous_id != found["Before"].anonymous_id


async def test_a_link_for_somebody_else_is_not_the_one_who_is_remembered(shop, linked):
    page = await shop.open()
    await page.evaluate("perigee.identify('ada')")
    token = link_tokens.sign_link_token(
        linked,
        link_tokens.LinkRecipient("default", user_id="bob"),
        SystemClock().now() + 60_000_000,
    )
    await page.close()
    await shop.open(f"/?{link_tokens.LINK_PARAMETER}={token}")
    found = [t for t in await shop.sent(4) if t.type == "identify"]
    assert [t.user_id for t in found] == ["ada", "bob"]


async def test_hostile_pages(shop):
    """A call that does not exist, fields named like a form's own methods, a cookie that is none."""
    form = """<form id=bad data-perigee-traits="email agreed" data-perigee-event="Bad Form" onsubmit="return false">
    <input name=elements value=1><input name=getAttribute value=2><input name=querySelectorAll value=3><input name=dataset>
    <input name=email value=e@x.test><input type=checkbox name=agreed><button id=go>Go</button></form>"""
    shop.write("async", "data-domain=127.0.0.1")
    early = "<script>document.cookie = 'perigee_id=%zz'; window.perigee = [['trak', 'A'], ['track', 'Real']]</script>"
    for path, (html, rule) in shop.pages.items():
        shop.pages[path] = (early + html + form, rule)
    page = await shop.open()
    await page.evaluate("localStorage.setItem('perigee.queue.x', '{')")
    await page.reload()
    await page.wait_for_function("window.perigee && perigee.version")
    await page.evaluate("document.getElementById('go').click()")
    found = [t for t in await shop.sent(6) if t.name == "Bad Form" or t.type == "identify"]
    assert [t.traits for t in found] == [{"email": "e@x.test"}, {}]
    assert said(await shop.sent(6)).count(("track", "Real")) == 2
    await page.wait_for_timeout(3_500)
    assert not await page.evaluate("Object.keys(localStorage).includes('perigee.queue.x')")
