"""Browser libraries in real headless Chromium, from a page on another origin. `make test-sdks` runs them."""

import asyncio
import time
from urllib.parse import quote

import pytest

from tests.sdks.expected import LACKS, ONCE, TOTAL, check, sent_by
from tests.sdks.faulty_proxy import Road
from tests.sdks.pages import browser, pages

pytestmark = pytest.mark.timeout(300)
BROWSERS = {
    "segment-browser": "segment.html",
    "segment-browser-batching": "segment-batching.html",
    "rudder-browser": "rudder.html",
    "jitsu-browser": "jitsu.html",
}


@pytest.mark.parametrize("name", BROWSERS)
async def test_every_call_of_a_page_on_another_origin_is_there_once(door, name):
    key = await door.source(name)
    lacks = LACKS.get(name, frozenset())
    road = Road(door.ingest_url, mean=name not in ONCE)
    try:
        with (
            pages() as origin,
            browser(f"{origin}/{BROWSERS[name]}?host={quote(road.url)}&key={key}") as said,
        ):
            end = time.monotonic() + 60
            while (
                len(found := await sent_by(name, door.servers)) < TOTAL - len(lacks)
                and time.monotonic() < end
            ):
                await asyncio.sleep(0.5)
            await asyncio.sleep(3)  # what comes twice comes now
            print(said.read_text(errors="replace")[-3_000:])
    finally:
        road.close()
    found = await sent_by(name, door.servers)
    if name not in ONCE:
        assert (road.lost, road.twice) == (
            1,
            1,
        )  # in batches there are too few requests for a third
    check(
        found, lacks=lacks, paths=("/", f"/{BROWSERS[name]}")
    )  # some say where they are, whatever they are told
