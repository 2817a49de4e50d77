"""Perigee's own tracker in real headless Chromium, on a page of another origin. `make test-sdks` runs it."""

import asyncio
import re
import shutil
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest
from playwright.async_api import async_playwright

from libs.common import links
from libs.common.clock import SystemClock
from services.ingest.tracker.script import policy, snippet
from tests.sdks.expected import sent_by
from tests.sdks.mean import Road
from tests.sdks.pages import site
from tests.support.instance import Instance

pytestmark = pytest.mark.timeout(180)
MINE = "'unsafe-inline' 'unsafe-eval'"  # the test's own scripts
KEYS = "a-secret-for-links,an-older-one"
BODY = """<!doctype html><meta charset=utf-8><title>Shop</title>%s<body>
<a id=out href="https://elsewhere.test/prices?who=ada">Prices</a> <a id=file href="/paper.pdf?x=1">Paper</a>
<a id=near href="/next.html">Next</a> <button id=ask data-perigee-event="Quote Asked">Ask</button>
<form id=paper data-perigee-event="Paper Asked" data-perigee-traits="email, company" onsubmit="return false">
<input name=email value=ada@x.test><input name=company value=Acme><input name=secret value=s3cret>
<input type=checkbox data-perigee-consent=email checked><button id=send>Send</button></form>
<form id=login onsubmit="return false"><input name=password value=s3cret><button id=enter>Enter</button></form></body>"""


class Shop:
    """A site with the snippet on each page, the door, and a browser."""

    def __init__(self, door, servers, context, pages, origin, key):
        self.door, self.servers, self.context = door, servers, context
        self.pages, self.origin, self.key = pages, origin, key
        self.host = door.door

    def write(self, *attributes, host=None):
        """Write the pages; `attributes` are added to the script tag."""
        lines = snippet(host or self.host, self.key).replace(" async ", f" {' '.join(attributes)} ", 1)
        for path in ("/", "/next.html"):
            self.pages[path] = (BODY % lines, policy(host or self.host).replace("script-src", f"script-src {MINE}"))

    async def open(self, address="/", **options):
        page = await self.context.new_page()
        page.on("console", lambda said: print("page:", said.text))
        await page.goto(self.origin + address, **options)
        await page.wait_for_function("window.perigee && perigee.version")
        return page

    async def sent(self, least=1, seconds=20.0):
        """Return what came, oldest first, as soon as there are `least`."""
        end = time.monotonic() + seconds
        while len(found := await sent_by("shop", self.servers)) < least and time.monotonic() < end:
            await asyncio.sleep(0.2)
        ids = [t.message_id for t in found]
        assert len(set(ids)) == len(ids)
        return sorted(found, key=lambda t: t.original_timestamp or t.occurred_at)


def said(found):
    return [(t.type, t.name) for t in found]


@asynccontextmanager
async def opened(program, **options):
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"], ignore_default_args=["--disable-back-forward-cache"]
        )
        yield await browser.new_context(**options)
        await browser.close()


@pytest.fixture
def linked(monkeypatch):
    monkeypatch.setenv("PERIGEE_LINK_KEYS", KEYS)


@pytest.fixture
async def shop(linked, door: Instance, servers):
    key = await door.source("shop")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "test-sdks needs Chromium: install it (Debian: apt-get install chromium) and try again"
    with site() as (origin, pages):
        async with opened(program) as context:
            found = Shop(door, servers, context, pages, origin, key)
            found.write()
            yield found


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
    assert (found[0].locale, found[0].device_class, found[0].page_path) == ("en-US", "computer", "/")
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


async def test_it_is_the_same_browser_the_next_day_until_it_is_told_to_forget(shop):
    page = await shop.open()
    first = await page.evaluate("perigee.anonymousId()")
    await page.evaluate("perigee.identify('u-1', {plan: 'pro'})")
    await page.evaluate("perigee.group('acme')")
    await page.close()
    page = await shop.open("/next.html")
    await page.evaluate("perigee.push(['track', 'Seen', {n: 1}])")
    found = await shop.sent(5)
    assert {t.anonymous_id for t in found} == {first}
    assert (found[-1].user_id, found[-1].group_id, found[-1].properties) == ("u-1", "acme", {"n": 1})
    await page.evaluate("perigee.reset(); perigee.track('After')")
    after = (await shop.sent(6))[-1]
    assert (after.user_id, after.group_id) == (None, None)
    assert after.anonymous_id not in (None, first)


async def test_calls_before_it_has_loaded_are_kept(shop):
    shop.write("async")
    for path, (html, rule) in shop.pages.items():
        shop.pages[path] = (f"<script>window.perigee = [['track', 'Early', {{n: 1}}]]</script>{html}", rule)
    await shop.open()
    assert said(await shop.sent(2)) == [("page", ""), ("track", "Early")]


@pytest.mark.parametrize("rule", ["drop", "keep"])
async def test_consent_first(shop, rule):
    shop.write(f"data-consent={rule}")
    page = await shop.open()
    await page.evaluate("perigee.identify('u-1', {email: 'ada@x.test'}); perigee.track('Before')")
    await page.wait_for_timeout(2_500)
    before = await shop.sent(0)
    assert said(before) == ([] if rule == "drop" else [("page", ""), ("identify", ""), ("track", "Before")])
    assert all(t.user_id is None and not t.traits for t in before)
    assert await page.evaluate("Object.keys(localStorage)") == []
    await page.evaluate("perigee.consent({analytics: true, email: false}); perigee.track('After')")
    found = await shop.sent(len(before) + 2)
    after = found[len(before) :]
    assert len({t.anonymous_id for t in found}) == 1
    assert {tuple(t.consent.items()) for t in after if t.type != "page"} == {(("analytics", True), ("email", False))}
    kept = await page.evaluate("Object.keys(localStorage).sort()")
    assert {"perigee.consent", "perigee.id"} <= set(kept)
    await page.evaluate("perigee.consent({analytics: false}); perigee.track('Never')")
    last = (await shop.sent(len(found) + 1))[-1]
    assert (last.type, last.consent["analytics"]) == ("identify", False)
    await page.reload()
    await page.wait_for_timeout(2_500)
    assert len(await shop.sent(0)) == len(found) + 1
    assert await page.evaluate("Object.keys(localStorage)") == ["perigee.consent"]


async def test_a_consent_is_taken_back_whatever_was_said_before_and_be_it_offline(shop):
    page = await shop.open()
    await page.evaluate("perigee.identify('u-1'); perigee.consent({analytics: true, email: true})")
    found = await shop.sent(3)
    await page.evaluate("perigee.consent({analytics: true, email: true}); perigee.consent({analytics: false})")
    found = await shop.sent(4)
    await shop.context.set_offline(True)
    await page.evaluate("perigee.consent({email: false}); perigee.track('Never')")
    await page.wait_for_timeout(500)
    await page.close()
    await shop.context.set_offline(False)
    page = await shop.open("/next.html")
    found = await shop.sent(5)
    assert said(found) == [("page", ""), ("identify", ""), ("identify", ""), ("identify", ""), ("identify", "")]
    assert [t.consent for t in found[3:]] == [{"analytics": False, "email": True}, {"analytics": False, "email": False}]
    assert len({t.anonymous_id for t in found}) == 1, "it is the same person's"
    assert [t.user_id for t in found[3:]] == [None, None], "and says no more of them than it has to"
    assert set(found[4].context) == {"library"}, "neither page nor browser"
    await page.wait_for_timeout(4_000)
    assert await page.evaluate("Object.keys(localStorage)") == ["perigee.consent"]


@pytest.mark.parametrize("rule", ["drop", "keep"])
async def test_who_asks_for_something_by_a_form_is_known_though_they_refuse_all_else(shop, rule):
    shop.write(f"data-consent={rule}")
    page = await shop.open()
    await page.click("#send")
    await page.click("#enter")
    await page.wait_for_timeout(2_500)
    found = [t for t in await shop.sent(0) if t.type != "page" and "page" not in t.context]
    assert said(found)[-2:] == [("identify", ""), ("track", "Paper Asked")]
    assert found[-2].traits == {"email": "ada@x.test", "company": "Acme"}
    assert all(t.consent == {"email": True} for t in found)
    own = {t.anonymous_id for t in found}
    assert len(own) == 1
    assert not own & {t.anonymous_id for t in await shop.sent(0) if "page" in t.context}, (
        "not that of what is seen here"
    )
    await page.close()
    page = await shop.open("/next.html")
    await page.evaluate("perigee.consent({email: false})")
    await page.wait_for_timeout(2_500)
    last = (await shop.sent(0))[-1]
    assert (last.consent, {last.anonymous_id}) == ({"email": False}, own), "taken back where it was given"
    await page.wait_for_timeout(2_500)
    assert await page.evaluate("Object.keys(localStorage)") == ["perigee.consent"]


async def test_traits_of_somebody_without_a_name(shop):
    page = await shop.open()
    await page.evaluate("perigee.identify(null, {plan: 'pro'}); perigee.identify(undefined, {plan: 'max'})")
    found = await shop.sent(3)
    assert [(t.user_id, t.traits) for t in found[1:]] == [(None, {"plan": "pro"}), (None, {"plan": "max"})]


@pytest.mark.parametrize("wish", ["globalPrivacyControl", "doNotTrack"])
async def test_what_the_browser_says_for_all_sites_is_honoured(shop, wish):
    value = "true" if wish == "globalPrivacyControl" else "'1'"
    await shop.context.add_init_script(f"Object.defineProperty(navigator, '{wish}', {{get: () => {value}}})")
    page = await shop.open()
    await page.evaluate("perigee.track('No')")
    await page.wait_for_timeout(2_500)
    assert await shop.sent(0) == []
    assert await page.evaluate("Object.keys(localStorage)") == []
    await page.evaluate("perigee.consent({analytics: true})")  # said here, by the person, counts more
    assert said(await shop.sent(2)) == [("page", ""), ("identify", "")]


async def test_what_is_taken_offline_is_sent_later_by_this_page_or_the_next(shop):
    page = await shop.open()
    await shop.sent(1)
    await shop.context.set_offline(True)
    tried = []
    page.on("requestfailed", lambda one: tried.append(one.url))
    await page.evaluate("perigee.track('Off 1')")
    while len(tried) < 2:  # the next time is seconds away: as a page closes, the browser forgets that it is offline
        await page.wait_for_timeout(50)
    await page.evaluate("perigee.track('Off 2')")
    await page.close()
    assert len(await shop.sent(0)) == 1
    await shop.context.set_offline(False)
    page = await shop.open("/next.html")
    found = await shop.sent(4)
    assert said(found) == [("page", ""), ("track", "Off 1"), ("track", "Off 2"), ("page", "")]
    assert found[1].occurred_at < found[3].occurred_at - 1_000_000
    await page.wait_for_function("!Object.keys(localStorage).some(name => name.includes('queue'))", timeout=5_000)


async def test_what_is_taken_as_the_page_is_left_is_sent(shop):
    page = await shop.open()
    await page.evaluate("addEventListener('pagehide', () => perigee.track('Last'), true)")
    await page.click("#near")
    await page.wait_for_url("**/next.html")
    found = await shop.sent(3)
    assert sorted(said(found)) == [("page", ""), ("page", ""), ("track", "Last")]


async def test_a_page_from_the_browsers_cache_is_a_page_view(shop):
    page = await shop.open()
    await page.evaluate("addEventListener('pageshow', e => { if (e.persisted) perigee.track('Was kept') })")
    await page.click("#near")
    await page.wait_for_url("**/next.html")
    await page.evaluate("setTimeout(() => history.back())")  # the driver does not see a page come back from the cache
    found = await shop.sent(4)
    assert [(t.page_path, t.name) for t in found] == [("/", ""), ("/next.html", ""), ("/", ""), ("/", "Was kept")]


async def test_a_mean_road(shop):
    """An answer that is lost, a request that comes twice, a 429: each touchpoint is there once."""
    road = await asyncio.to_thread(Road, shop.door.door)
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


async def test_a_link_that_was_made_for_somebody(shop):
    now = SystemClock().now()
    keys = KEYS.split(",")
    tokens = {
        "good": links.mint(keys, links.Person("default", user_id="u-7"), now + 60_000_000),
        "mail": links.mint(keys[1:], links.Person("default", email="ada@x.test"), now + 60_000_000),
        "old": links.mint(keys, links.Person("default", user_id="u-8"), now - 1),
        "forged": links.mint(["guessed"], links.Person("default", user_id="u-9"), now + 60_000_000),
    }
    for count, token in enumerate(tokens.values(), 1):
        page = await shop.open(f"/?a=1&{links.PARAMETER}={token}#here")
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
    assert seen.context["page"]["url"].startswith(shop.origin)  # no path: browsers tell other origins no more


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
    road = await asyncio.to_thread(partial(Road, shop.door.door, mean=False))
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


async def test_a_link_for_somebody_else_is_not_the_one_who_is_remembered(shop):
    page = await shop.open()
    await page.evaluate("perigee.identify('ada')")
    token = links.mint(KEYS.split(","), links.Person("default", user_id="bob"), SystemClock().now() + 60_000_000)
    await page.close()
    await shop.open(f"/?{links.PARAMETER}={token}")
    found = [t for t in await shop.sent(4) if t.type == "identify"]
    assert [t.user_id for t in found] == ["ada", "bob"]


async def test_an_id_that_was_kept_before_is_not_sent_where_consent_is_waited_for(shop):
    page = await shop.open()
    kept = await page.evaluate("perigee.anonymousId()")
    await shop.sent(1)
    shop.write("data-consent=keep")
    page = await shop.open("/next.html")
    found = await shop.sent(2)
    assert found[-1].anonymous_id != kept


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
