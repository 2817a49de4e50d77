"""Perigee's tracker in headless Chromium, offline, by a faulty proxy and on a hostile page.

`make test-sdks` runs these tests.
"""

import asyncio
from functools import partial

import pytest

from tests.sdks.expected import types_and_names
from tests.sdks.faulty_proxy import FaultyProxy

pytestmark = pytest.mark.timeout(180)


async def test_faulty_proxy_loses_and_repeats_no_touchpoint(shop):
    """A lost response, a duplicated request and a 429 leave each touchpoint stored once."""
    proxy = await asyncio.to_thread(FaultyProxy, shop.ingest.ingest_url)
    try:
        shop.write(host=proxy.url)
        page = await shop.open()
        for number in range(4):
            await page.evaluate(f"perigee.track('Ping', {{n: {number}}}); perigee.flush()")
            await page.wait_for_timeout(300)
        touchpoints = await shop.sent(5, 40)
        await page.wait_for_timeout(2_000)

        touchpoints = await shop.sent(5)

        assert [t.properties["n"] for t in touchpoints if t.name == "Ping"] == [0, 1, 2, 3]
        assert (proxy.lost, proxy.twice) == (1, 1)
    finally:
        proxy.close()


async def test_tab_switch_during_outage_loses_nothing(shop):
    proxy = await asyncio.to_thread(partial(FaultyProxy, shop.ingest.ingest_url, faulty=False))
    try:
        shop.write(host=proxy.url)
        proxy.away = True
        page = await shop.open()
        await page.evaluate("perigee.track('Order Completed')")
        hide = (
            "Object.defineProperty(document, 'visibilityState', "
            "{value: 'hidden', configurable: true});"
        )
        await page.evaluate(hide + "document.dispatchEvent(new Event('visibilitychange'))")

        await page.wait_for_timeout(500)

        assert await shop.sent(0) == []

        proxy.away = False

        assert sorted(types_and_names(await shop.sent(2))) == [
            ("page", ""),
            ("track", "Order Completed"),
        ]
    finally:
        proxy.close()


async def test_offline_calls_are_sent_later_by_any_page(shop):
    page = await shop.open()
    await shop.sent(1)
    await shop.context.set_offline(True)
    failed_urls = []
    page.on("requestfailed", lambda request: failed_urls.append(request.url))
    await page.evaluate("perigee.track('Off 1')")
    # A third attempt is seconds away: a closing page no longer counts as offline.
    while len(failed_urls) < 2:
        await page.wait_for_timeout(50)
    await page.evaluate("perigee.track('Off 2')")

    await page.close()

    assert len(await shop.sent(0)) == 1

    await shop.context.set_offline(False)
    page = await shop.open("/next.html")
    touchpoints = await shop.sent(4)

    assert types_and_names(touchpoints) == [
        ("page", ""),
        ("track", "Off 1"),
        ("track", "Off 2"),
        ("page", ""),
    ]
    assert touchpoints[1].occurred_at < touchpoints[3].occurred_at - 1_000_000

    await page.wait_for_function(
        "!Object.keys(localStorage).some(name => name.includes('queue'))", timeout=5_000
    )


async def test_tracker_survives_hostile_page(shop):
    """The page has an unknown call, fields named like form methods, and an invalid cookie."""
    form = """<form id=bad data-perigee-traits="email agreed" data-perigee-event="Bad Form"
    onsubmit="return false">
    <input name=elements value=1><input name=getAttribute value=2>
    <input name=querySelectorAll value=3><input name=dataset>
    <input name=email value=e@x.test><input type=checkbox name=agreed>
    <button id=go>Go</button></form>"""
    shop.write("async", "data-domain=127.0.0.1")
    early = (
        "<script>document.cookie = 'perigee_id=%zz'; "
        "window.perigee = [['trak', 'A'], ['track', 'Real']]</script>"
    )
    for path, (html, rule) in shop.pages.items():
        shop.pages[path] = (early + html + form, rule)
    page = await shop.open()
    await page.evaluate("localStorage.setItem('perigee.queue.x', '{')")
    await page.reload()
    await page.wait_for_function("window.perigee && perigee.version")
    await page.evaluate("document.getElementById('go').click()")

    touchpoints = [t for t in await shop.sent(6) if t.name == "Bad Form" or t.type == "identify"]

    assert [t.traits for t in touchpoints] == [{"email": "e@x.test"}, {}]
    assert types_and_names(await shop.sent(6)).count(("track", "Real")) == 2

    await page.wait_for_timeout(3_500)

    assert not await page.evaluate("Object.keys(localStorage).includes('perigee.queue.x')")
