"""Browser libraries in headless Chromium, on a page of another origin, by `make test-sdks`."""

import asyncio
import time
from urllib.parse import quote

import pytest

from tests.sdks.expected import LACKS, TOTAL, WITHOUT_RETRIES, check, sent_by
from tests.sdks.faulty_proxy import FaultyProxy
from tests.sdks.pages import browser, pages

pytestmark = pytest.mark.timeout(300)
BROWSERS = {
    "segment-browser": "segment.html",
    "segment-browser-batching": "segment-batching.html",
    "rudder-browser": "rudder.html",
    "jitsu-browser": "jitsu.html",
}


@pytest.mark.parametrize("name", BROWSERS)
async def test_cross_origin_call_is_stored_once(ingest, name):
    key = await ingest.create_source(name)
    lacks = LACKS.get(name, frozenset())
    proxy = FaultyProxy(ingest.ingest_url, faulty=name not in WITHOUT_RETRIES)
    try:
        with (
            pages() as origin,
            browser(f"{origin}/{BROWSERS[name]}?host={quote(proxy.url)}&key={key}") as console_log,
        ):
            end = time.monotonic() + 60
            while (
                len(touchpoints := await sent_by(name, ingest.servers)) < TOTAL - len(lacks)
                and time.monotonic() < end
            ):
                await asyncio.sleep(0.5)
            await asyncio.sleep(3)  # a duplicate arrives within this time
            print(console_log.read_text(errors="replace")[-3_000:])
    finally:
        proxy.close()
    touchpoints = await sent_by(name, ingest.servers)
    if name not in WITHOUT_RETRIES:
        # Batches are too few requests for a third.
        assert (proxy.lost, proxy.twice) == (1, 1)
    # Some libraries send the page's real path, not the given one.
    check(touchpoints, lacks=lacks, paths=("/", f"/{BROWSERS[name]}"))
