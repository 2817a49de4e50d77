"""Ingest's HTTP server with fixed sources and a recording publisher, and raw requests to it."""

import asyncio
import base64
import itertools
import json
from functools import partial

from libs.common.clock import FixedClock
from libs.common.ids import WorkspaceId
from libs.common.observability.health import HealthChecks, build_server
from services.ingest.api.tracking import TrackingApi
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.domain.source import Source
from services.ingest.handlers.ingestion import IngestService
from services.ingest.protocol.server import IngestProtocol
from services.ingest.protocol.timeouts import TimeoutProtocol
from services.ingest.tracker.script import TrackerScripts
from tests.support.waiting import last, wait_until

IDS = itertools.count()
NOW = 1_780_000_000_000_000
SOURCES = {
    "good": Source(WorkspaceId("default"), "web"),
    "slow": Source(WorkspaceId("default"), "slow", per_second=1),
    "shy": Source(WorkspaceId("default"), "shy", allowed_origins=("https://shop.test",)),
    "signed": Source(WorkspaceId("default"), "signed", adapter="webhook", signing_secret="s"),
}


class FixedSources:
    is_loaded = True

    def find(self, write_key):
        return SOURCES.get(write_key)


class RecordingPublisher:
    """Records messages; waits while the gate is closed."""

    def __init__(self):
        self.kept, self.fault, self.gate = [], None, asyncio.Event()
        self.waiting = 0
        self.gate.set()

    async def publish(self, messages, seconds):
        if any(b"broken" in m.value for m in messages):
            raise ZeroDivisionError
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        if self.fault is not None:
            raise self.fault
        self.kept += messages
        return [None] * len(messages)


class IngestServer:
    """Listening ingest server; `asgi` leaves out the buffered protocol."""

    def __init__(self, *, asgi=False):
        self.publisher = RecordingPublisher()
        service = IngestService(
            FixedSources(), self.publisher, FixedClock(NOW), 1, NormalisationRules()
        )
        self.api = TrackingApi(service, TrackerScripts(), HealthChecks({}).app())
        self.web = build_server(
            self.api, "127.0.0.1", 0, TimeoutProtocol if asgi else partial(IngestProtocol, self.api)
        )

    async def __aenter__(self):
        self.task = asyncio.create_task(self.web.serve())
        await wait_until(lambda: self.web.started, what="the server")
        self.port = self.web.servers[0].sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.publisher.gate.set()
        self.web.should_exit = True
        await asyncio.wait_for(self.task, 10)

    async def open(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *chunks):
        """Send the chunks one by one; return all bytes received until the connection ends."""
        reader, writer = await self.open()
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await last(0.02)
        response = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return response


def request(
    body=b"{}",
    path="/v1/track",
    *,
    key="good",
    method="POST",
    version="1.1",
    close=True,
    sized=True,
    **headers,
):
    lines = [f"{method} {path} HTTP/{version}", "host: ingest.test"]
    lines += (
        [f"authorization: Basic {base64.b64encode(f'{key}:'.encode()).decode()}"] if key else []
    )
    lines += [f"content-length: {len(body)}"] if sized else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += ["connection: close"] if close else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def call(**parts):
    return json.dumps(
        {"event": "x", "userId": "u", "messageId": f"m-{next(IDS)}", **parts}
    ).encode()


def parse_response(response):
    """Return (status line, headers without the date, body)."""
    head, _, content = response.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return (
        first,
        sorted(line.lower() for line in lines if not line.lower().startswith(b"date:")),
        content,
    )


def batch():
    return json.dumps(
        {"batch": [{"type": "track", **json.loads(call())}, 3], "sentAt": "2026-05-28T20:26:41Z"}
    ).encode()


def split_bytes(content):
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
