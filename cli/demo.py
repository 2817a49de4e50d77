"""`perigee demo`: the storefront's touchpoints sent through the ingest API, and the outcome."""

import asyncio
import json
import time
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.demo_report import gather_report, print_report
from cli.idle_detection import wait_until_idle
from cli.preparation import put_source
from cli.stack import InstanceStack, ProgressReporter
from examples.storefront.mapping import Call, calls
from libs.common.errors import ConfigurationError, PerigeeError, Unavailable

BATCH_CALLS = 100
IDLE_TIMEOUT_SECONDS = 300
KEY_TIMEOUT_SECONDS = 20
SEND_TIMEOUT_SECONDS = 120
# The demo's live touchpoints are up to 30 days old: scoring has to react to them, and plays to
# follow them.
WINDOWS = {"PERIGEE_REACTION_WINDOW": "31d", "PERIGEE_MAX_AGE": "31d"}


def run_demo(
    stack: InstanceStack,
    *,
    as_json: bool,
    scoring: int | None,
    anchor: str | None,
    report: ProgressReporter,
) -> None:
    """Start the instance, send the touchpoints, wait until it is idle, print the figures.

    Raises PerigeeError when a part cannot start or the instance does not become idle.
    """
    stack.home.create()
    stack.home.store_environment(environment=WINDOWS)
    last_instant = _anchor(stack, anchor)
    stack.up(report, scoring)
    environment = stack.environment()
    accepted = asyncio.run(_send(environment, last_instant))
    if not wait_until_idle(environment, IDLE_TIMEOUT_SECONDS, report):
        raise PerigeeError(
            f"the services did not come to rest within {IDLE_TIMEOUT_SECONDS} s: "
            "see 'perigee status' and the logs"
        )
    figures = gather_report(environment, accepted)
    if as_json:
        print(json.dumps(figures.to_document()))
    else:
        print_report(figures, environment, Console())


def _anchor(stack: InstanceStack, given: str | None) -> datetime:
    """Return the instant of the last event: the first demo's, else the given one, else now."""
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
    storefront_calls = list(calls(anchor))
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
        await _wait_for_key(client, url)
        with bar:
            task = bar.add_task("send", total=len(storefront_calls))
            stream = iter(storefront_calls)
            while batch := list(islice(stream, BATCH_CALLS)):
                await _post(client, url, batch)
                accepted += len(batch)
                bar.advance(task, len(batch))
    return accepted


async def _wait_for_key(client: httpx2.AsyncClient, url: str) -> None:
    """Wait until ingest has read the new source."""
    deadline = time.monotonic() + KEY_TIMEOUT_SECONDS
    while (answer := await client.post(url, json={"batch": []})).status_code == 401:
        if time.monotonic() > deadline:
            raise PerigeeError(f"{url} does not know the storefront's write key: {answer.text}")
        await asyncio.sleep(0.2)


async def _post(client: httpx2.AsyncClient, url: str, batch: list[Call]) -> None:
    """Send a batch until it is accepted.

    A 503 or a broken connection is tried again, as every SDK does.
    """
    deadline = time.monotonic() + SEND_TIMEOUT_SECONDS
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
        if time.monotonic() > deadline:
            raise Unavailable(f"{url} accepts nothing: {fault}")
        await asyncio.sleep(0.5)
