"""Shop site with Perigee's tracker on each page, visited by headless Chromium."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import BrowserContext, Page, async_playwright

from libs.common.messages import Touchpoint
from services.ingest.tracker.script import content_security_policy, html_snippet
from tests.sdks.expected import sent_by
from tests.sdks.pages import site
from tests.support.instance import Instance
from tests.support.waiting import wait_until

TEST_SCRIPTS = "'unsafe-inline' 'unsafe-eval'"  # scripts that the tests evaluate in the page

BODY = """<!doctype html><meta charset=utf-8><title>Shop</title>%s<body>
<a id=out href="https://elsewhere.test/prices?who=ada">Prices</a>
<a id=file href="/paper.pdf?x=1">Paper</a>
<a id=near href="/next.html">Next</a> <button id=ask data-perigee-event="Quote Asked">Ask</button>
<form id=paper data-perigee-event="Paper Asked" data-perigee-traits="email, company"
onsubmit="return false">
<input name=email value=ada@x.test><input name=company value=Acme><input name=secret value=s3cret>
<input type=checkbox data-perigee-consent=email checked><button id=send>Send</button></form>
<form id=login onsubmit="return false"><input name=password value=s3cret>
<button id=enter>Enter</button></form></body>"""


class Shop:
    """Site with the tracker snippet on each page, the ingest process and a browser context."""

    def __init__(
        self,
        ingest: Instance,
        context: BrowserContext,
        pages: dict[str, Any],
        origin: str,
        key: str,
    ) -> None:
        self.ingest, self.servers, self.context = ingest, ingest.servers, context
        self.pages, self.origin, self.key = pages, origin, key
        self.host = ingest.ingest_url

    def write(self, *attributes: str, host: str | None = None) -> None:
        """Write the pages; `attributes` are added to the script tag."""
        snippet = html_snippet(host or self.host, self.key).replace(
            " async ", f" {' '.join(attributes)} ", 1
        )
        for path in ("/", "/next.html"):
            self.pages[path] = (
                BODY % snippet,
                content_security_policy(host or self.host).replace(
                    "script-src", f"script-src {TEST_SCRIPTS}"
                ),
            )

    async def open(self, address: str = "/", **options: Any) -> Page:
        """Open a page and wait for the tracker."""
        page = await self.context.new_page()
        page.on("console", lambda message: print("page:", message.text))
        await page.goto(self.origin + address, **options)
        await page.wait_for_function("window.perigee && perigee.version")
        return page

    async def sent(self, least: int = 1, seconds: float = 20.0) -> list[Touchpoint]:
        """Return the shop's touchpoints, oldest first, as soon as there are `least`."""

        async def enough() -> tuple[list[Touchpoint]] | None:
            touchpoints = await sent_by("shop", self.servers)
            return (touchpoints,) if len(touchpoints) >= least else None

        (touchpoints,) = await wait_until(enough, seconds, f"{least} touchpoints", every=0.2)
        ids = [t.message_id for t in touchpoints]
        assert len(set(ids)) == len(ids)
        return sorted(touchpoints, key=lambda t: t.original_timestamp or t.occurred_at)


@asynccontextmanager
async def open_browser(program: str, **options: Any) -> AsyncIterator[BrowserContext]:
    """Yield the context of a new browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox"],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield await browser.new_context(**options)
        await browser.close()


@asynccontextmanager
async def open_shop(ingest: Instance) -> AsyncIterator[Shop]:
    """Yield a shop with its pages written."""
    key = await ingest.create_source("shop")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, (
        "test-sdks needs Chromium: install it (Debian: apt-get install chromium) and try again"
    )
    with site() as (origin, pages):
        async with open_browser(program) as context:
            shop = Shop(ingest, context, pages, origin, key)
            shop.write()
            yield shop
