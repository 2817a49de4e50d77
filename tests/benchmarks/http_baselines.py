"""Servers that ingest is compared with, a process each.

    python -m tests.benchmarks.http_baselines KIND PORT

bare              uvicorn with the same settings; reads the body and answers
decode            the same, and decodes the body
publish           publishes the body in pieces, one for each event, with a touchpoint's headers
least             decodes calls, encodes them as touchpoints and publishes them, without any check
send              ingest with aiokafka's `send` and a future per touchpoint, no accumulator
all on            ingest with a fixed source instead of PostgreSQL
general path      the same without the fast path
aiokafka batches  the same without the wire encoding
ASGI              the same without the buffered protocol
"""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.clock import SystemClock
from libs.common.ids import WorkspaceId
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.wire.encoded_record import AnyMessage
from libs.common.messages import Message, Touchpoint
from libs.common.observability.health import HealthChecks, build_server
from libs.common.service_runner import run_service
from services.ingest.api.tracking import TrackingApi
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import TrackingCall
from services.ingest.handlers.ingestion import IngestService
from services.ingest.handlers.outgoing_messages import touchpoint_message
from services.ingest.protocol.server import IngestProtocol
from services.ingest.protocol.timeouts import TimeoutProtocol
from services.ingest.settings import CHANNELS
from services.ingest.tracker.script import TrackerScripts

_CE = [
    ("ce_specversion", b"1.0"),
    ("ce_type", b"perigee.touchpoint.v1"),
    ("ce_source", b"/ingest/bench"),
    ("content-type", b"application/json"),
    ("ce_id", b"bench:node-next-1790000000000-21cf3ab0-a1a1-4c4c-8d8d-0123456789ab"),
    ("ce_time", b"2026-05-28T20:26:41.000123Z"),
]


class _Batch(msgspec.Struct):
    batch: list[TrackingCall]


_batch, _call = msgspec.json.Decoder(_Batch), msgspec.json.Decoder(TrackingCall)
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"16")]


def answering(*, decode: bool) -> ASGIApp:
    """Return an application that responds like ingest and does nothing else, or only decodes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = scope["type"] == "http"
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        if decode:
            msgspec.json.decode(body)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b'{"success":true}'})

    return app


class Publish:
    """Publishes bodies without decoding them."""

    def __init__(self) -> None:
        self._publisher = Publisher(os.environ["KAFKA_BOOTSTRAP_SERVERS"], linger_ms=2)
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content, more = b"", scope["type"] == "http"
        while more:
            event = await receive()
            content += event.get("body", b"")
            more = event.get("more_body", False)
        assert not any(await self._publisher.publish(self._messages(content), 10))
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b'{"success":true}'})

    def _messages(self, content: bytes) -> list[Message]:
        """Return pieces of the body, keyed by as many contacts as the sender has."""
        events = content.count(b'"messageId"')
        self._count, size = self._count + events, len(content) // events
        return [
            Message(
                "touchpoints",
                b"default:user-%06d" % ((self._count - n) * 7_919 % 5_000),
                content[n * size : (n + 1) * size],
                _CE,
            )
            for n in range(events)
        ]


class Least(Publish):
    """Publishes calls as touchpoints without checks."""

    def _messages(self, content: bytes) -> list[Message]:
        return [touchpoint_message(self._touchpoint(call)) for call in self._calls(content)]

    @staticmethod
    def _calls(content: bytes) -> list[TrackingCall]:
        return (
            _batch.decode(content).batch if content[:8] == b'{"batch"' else [_call.decode(content)]
        )

    @staticmethod
    def _touchpoint(call: TrackingCall) -> Touchpoint:
        at = 1_780_000_000_000_000
        properties: Any = call.properties  # as they came
        context: Any = call.context
        return Touchpoint(
            WorkspaceId("default"), "bench", call.message_id, "track", at, at,
            call.event, call.user_id, call.anonymous_id,
            properties=properties, context=context,
        )  # fmt: skip


class FixedSource:
    """The same source for any write key."""

    is_loaded = True

    def find(self, write_key: str) -> Source | None:
        return Source(WorkspaceId("default"), "bench")


class SendPublisher:
    """Publishes by aiokafka's `send`."""

    def __init__(self) -> None:
        self._producer: Any = None

    async def publish(self, messages: Sequence[AnyMessage], seconds: float) -> list[None]:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
                acks="all",
                enable_idempotence=True,
                linger_ms=2,
                compression_type="snappy",  # the fastest that it has: its LZ4 is of a high level
            )
            await self._producer.start()
        waiting = [
            await self._producer.send(m.topic, m.value, m.key, headers=m.headers) for m in messages
        ]
        await asyncio.wait_for(asyncio.gather(*waiting), seconds)
        return [None] * len(messages)


def application(kind: str) -> ASGIApp:
    """Return the application of a kind."""
    if kind in ("publish", "least"):
        return Publish() if kind == "publish" else Least()
    if kind in ("bare", "decode"):
        return answering(decode=kind == "decode")
    rules = NormalisationRules(parse_channel_rules(CHANNELS.read_text(), "channels.yaml"))
    wire_encoding = kind not in ("send", "aiokafka batches")
    publisher: Any = (
        SendPublisher()
        if kind == "send"
        else Publisher(
            os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            linger_ms=2,
            wire_encoding=wire_encoding,
        )
    )
    service = IngestService(
        FixedSource(),
        publisher,
        SystemClock(),
        10,
        rules,
        fast=kind != "general path",
        wire_encoding=wire_encoding,
    )
    return TrackingApi(service, TrackerScripts(), HealthChecks({}).app())


async def serve(stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    app = application(sys.argv[1])
    protocol: Callable[..., asyncio.Protocol] | None = None
    if isinstance(app, TrackingApi):
        protocol = TimeoutProtocol if sys.argv[1] == "ASGI" else partial(IngestProtocol, app)
    web = build_server(app, "127.0.0.1", int(sys.argv[2]), protocol)
    task = asyncio.create_task(web.serve())
    await stop.wait()
    web.should_exit = True
    await task


if __name__ == "__main__":
    run_service(serve)
