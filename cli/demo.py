"""`perigee demo`: the storefront's touchpoints through the front door, and what became of them."""

import asyncio
import json
import time
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.demo_report import Report, gather_report, print_report
from cli.idle_detection import wait_until_idle
from cli.preparation import put_source
from cli.stack import InstanceStack, ProgressReporter
from examples.storefront.mapping import Call, calls
from libs.common.errors import ConfigurationError, PerigeeError, Unavailable

BATCH = 100
IDLE_TIMEOUT_SECONDS = 300
# The demo's live touchpoints are up to 30 days old: they are to count as prompt, and plays are to follow them.
WINDOWS = {"PERIGEE_REACTION_WINDOW": "31d", "PERIGEE_MAX_AGE": "31d"}


def run_demo(
    stack: InstanceStack,
    *,
    as_json: bool,
    scoring: int | None,
    anchor: str | None,
    say: ProgressReporter,
) -> None:
    """Start, send, wait, show. Raises PerigeeError when a part cannot start or does not come to rest."""
    stack.home.create()
    stack.home.store_environment(environment=WINDOWS)
    last = _anchor(stack, anchor)
    stack.up(say, scoring)
    environment = stack.environment()
    accepted = asyncio.run(_send(environment, last))
    report = asyncio.run(_settle(environment, accepted, say))
    if as_json:
        print(json.dumps(report.document()))
    else:
        asyncio.run(print_report(report, environment, Console()))


def _anchor(stack: InstanceStack, given: str | None) -> datetime:
    """Return the instant of the last event: the one kept from the first demo, else the given one, else now."""
    kept = stack.home.read("options").get("anchor")
    if kept and given and datetime.fromisoformat(given) != datetime.fromisoformat(kept):
        raise ConfigurationError(
            f"this home's demo has its anchor at {kept}: use another PERIGEE_HOME for {given}"
        )
    text = kept or given or datetime.now(UTC).replace(microsecond=0).isoformat()
    try:
        anchor = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--anchor {text}: not an RFC 3339 time") from None
    stack.home.store_environment(anchor=text)
    return anchor if anchor.tzinfo else anchor.replace(tzinfo=UTC)


async def _send(environment: dict[str, str], anchor: datetime) -> int:
    """Send every call in time order, a hundred a request; return how many were accepted."""
    key = environment["STOREFRONT_WRITE_KEY"]
    await put_source(environment, "storefront", key)
    waiting = list(calls(anchor))
    bar = Progress(
        TextColumn("sending touchpoints"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    accepted = 0
    url = f"{environment['INGEST_URL']}/v1/batch"
    async with httpx2.AsyncClient(auth=(key, ""), timeout=15, trust_env=False) as client:
        await _until_known(client, url)
        with bar:
            task = bar.add_task("send", total=len(waiting))
            stream = iter(waiting)
            while batch := list(islice(stream, BATCH)):
                await _post(client, url, batch)
                accepted += len(batch)
                bar.advance(task, len(batch))
    return accepted


async def _until_known(client: httpx2.AsyncClient, url: str) -> None:
    """Wait until ingest has read the new source."""
    end = time.monotonic() + 20
    while (answer := await client.post(url, json={"batch": []})).status_code == 401:
        if time.monotonic() > end:
            raise PerigeeError(f"{url} does not know the storefront's write key: {answer.text}")
        await asyncio.sleep(0.2)


async def _post(client: httpx2.AsyncClient, url: str, batch: list[Call]) -> None:
    """Send a batch until it is taken: a 503 or a broken connection means again, as every SDK does."""
    end = time.monotonic() + 120
    while True:
        try:
            answer: Any = await client.post(url, json={"batch": batch})
        except httpx2.HTTPError as error:
            fault = repr(error)
        else:
            if answer.status_code == 200:
                return
            fault = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code < 500:
                raise PerigeeError(f"{url} refused a batch: {fault}")
        if time.monotonic() > end:
            raise Unavailable(f"{url} takes nothing: {fault}")
        await asyncio.sleep(0.5)


async def _settle(environment: dict[str, str], accepted: int, say: ProgressReporter) -> Report:
    connection = await wait_until_idle(environment, IDLE_TIMEOUT_SECONDS, say)
    if connection is None:
        raise PerigeeError(
            f"the services did not come to rest within {IDLE_TIMEOUT_SECONDS} s: see 'perigee status' and the logs"
        )
    try:
        return await gather_report(connection, environment, accepted)
    finally:
        await connection.close()
