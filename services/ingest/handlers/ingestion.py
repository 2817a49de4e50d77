"""Ingestion of a request: split, normalise, publish; refused messages become dead letters."""

import asyncio
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from prometheus_client import Counter

from libs.common.clock import Clock
from libs.common.errors import (
    InvalidMessage,
    NotFound,
    OriginNotAllowed,
    RateLimitExceeded,
    Unavailable,
    UnknownWriteKey,
    WebhooksOnly,
)
from libs.common.kafka.wire.encoded_record import AnyMessage
from libs.common.observability import metrics
from libs.common.observability.tracing import start_span
from services.ingest.adapters import WebhookRequest
from services.ingest.adapters.registry import ADAPTERS
from services.ingest.domain import json_body
from services.ingest.domain.deduplication_window import DeduplicationWindow
from services.ingest.domain.message_batch import MessageBatch, parse_batch
from services.ingest.domain.rate_limiter import RateLimiter
from services.ingest.domain.request_context import BatchDefaults, NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.fastpath.template_cache import TemplateCache
from services.ingest.handlers.adapter_calls import split_adapter_events
from services.ingest.handlers.message_reader import (
    FastPath,
    MessageReader,
    adapter_reader,
    tracking_reader,
)
from services.ingest.handlers.outgoing_messages import broker_refusal_message, dead_letter_message


class MessagePublisher(Protocol):
    """Publisher of messages to Kafka."""

    async def publish(
        self, messages: Sequence[AnyMessage], seconds: float
    ) -> Sequence[Exception | None]: ...


class SourceLookup(Protocol):
    """Sources by write key."""

    @property
    def is_loaded(self) -> bool: ...
    def find(self, write_key: str) -> Source | None: ...


_SPAN_ATTRIBUTES: dict[str, Any] = {
    "messaging.system": "kafka",
    "messaging.destination.name": "touchpoints",
    "messaging.operation.type": "send",
}


class TrackingRequest(msgspec.Struct, frozen=True):
    """A tracking request as the API read it."""

    body: bytes
    source: Source | None
    """The source of the key in the headers; None if the body has the key."""
    call_type: str | None
    """None for a batch."""
    origin: str | None = None
    client: str = ""
    trace: bytes | None = None


class IngestService:
    """Ingests requests; each method returns when Kafka has every message.

    A message becomes a touchpoint or a dead letter.
    """

    def __init__(
        self,
        sources: SourceLookup,
        publisher: MessagePublisher,
        clock: Clock,
        seconds: float,
        rules: NormalisationRules,
        *,
        fast: bool = True,
        wire_encoding: bool = True,
    ) -> None:
        """`fast`: encode plain calls from templates; `wire_encoding`: as Kafka records at once."""
        self._sources = sources
        self._publisher = publisher
        self._clock = clock
        self._seconds = seconds
        self._rules = rules
        self._recent = DeduplicationWindow()
        self._rates = RateLimiter()
        self._fast_path = FastPath(TemplateCache(), wire_encoding=wire_encoding) if fast else None

    async def ingest_request(self, request: TrackingRequest) -> int:
        """Publish a request's messages; return the number of touchpoints without repeated ones.

        Raises InvalidMessage when the whole is unreadable or a message is too large for a dead
        letter, UnknownWriteKey, WebhooksOnly, OriginNotAllowed, RateLimitExceeded, and Unavailable
        when Kafka does not acknowledge everything in time (the client retries; repeats are dropped
        by messageId).
        """
        batch = parse_batch(request.body, is_batch=request.call_type is None)
        source = request.source or self.authenticate(batch.write_key)
        if source.signing_secret is not None:
            raise WebhooksOnly  # its key is part of a webhook's address, so it proves nothing
        defaults = BatchDefaults(batch.sent_at, batch.context)
        with start_span(
            "publish touchpoints", "PRODUCER", request.trace, _SPAN_ATTRIBUTES
        ) as trace:
            received = RequestContext(
                source,
                self._clock.now(),
                _new_id,
                request.call_type,
                defaults,
                self._rules,
                request.client,
                trace=trace,
            )
            return await self._publish(
                received, batch, tracking_reader(received, self._fast_path), request.origin
            )

    async def ingest_webhook(self, hook: WebhookRequest, source: Source | None) -> int:
        """Publish the events of another system's webhook, converted by the source's adapter.

        Raises InvalidMessage, UnknownWriteKey, RateLimitExceeded, Unavailable,
        InvalidWebhookSignature, and NotFound for a source without an adapter.
        """
        if source is None:
            raise UnknownWriteKey
        adapter = ADAPTERS.get(source.adapter or "")
        if adapter is None:
            raise NotFound(
                f"source {source.name} has no adapter: "
                f"'perigee source set {source.name} --adapter …'"
            )
        now = self._clock.now()
        document = json_body.decode_document(hook.body)
        if adapter.verify_signature is not None:
            adapter.verify_signature(hook, document, source.signing_secret or "", now)
        name = source.adapter or ""
        received = RequestContext(source, now, _new_id, rules=self._rules, adapter=name)
        try:
            events = split_adapter_events(name, source, document)
        except json_body.BodyTooLarge:
            raise
        except InvalidMessage as error:
            # Signed, but the mapping does not fit: a dead letter until the mapping is corrected.
            json_body.check_dead_letter_sizes([hook.body])
            self._check_admission(source, None, 1, now)
            if any(
                await self._publisher.publish(
                    [dead_letter_message(hook.body, error, received, document=True)], self._seconds
                )
            ):
                raise _dead_letter_lost() from None
            return 0
        return await self._publish(
            received, MessageBatch(events), adapter_reader(name, received), None
        )

    async def _publish(
        self,
        received: RequestContext,
        batch: MessageBatch,
        reader: MessageReader,
        origin: str | None,
    ) -> int:
        """Read a request's messages and publish the results."""
        source, at, count = received.source, 0, len(batch.messages)
        self._check_admission(source, origin, count, received.received_at)
        while at < count:
            at = reader.read_slice(batch.messages, at)
            if at < count:
                await asyncio.sleep(0)  # other requests get the event loop
        touchpoints = reader.touchpoints
        for message_id in self._recent.find_known(touchpoints):
            del touchpoints[message_id]
        messages = [*touchpoints.values(), *reader.refused]
        faults = await self._publisher.publish(messages, self._seconds)
        if any(faults):
            await self._handle_faults(messages, faults)
        self._recent.add(touchpoints, received.received_at)
        ingested, repeated = _counters(source.name)
        ingested.inc(len(touchpoints))
        if len(touchpoints) < reader.count:
            repeated.inc(reader.count - len(touchpoints))
        return len(touchpoints)

    def _check_admission(self, source: Source, origin: str | None, count: int, now: int) -> None:
        if not source.allows(origin):
            raise OriginNotAllowed
        if source.per_second is not None:
            seconds = self._rates.acquire(
                (source.workspace, source.name), source.per_second, count, now
            )
            if seconds:
                metrics.EVENTS_REFUSED.labels(reason="too_fast").inc(count)
                raise RateLimitExceeded(seconds)

    def authenticate(self, write_key: str | None) -> Source:
        """Return a key's source. Raises UnknownWriteKey, and Unavailable until keys are loaded."""
        if not self._sources.is_loaded:
            raise Unavailable(
                "the sources are not read yet: PostgreSQL has not answered since the start"
            )
        source = self._sources.find(write_key) if write_key else None
        if source is None:
            raise UnknownWriteKey
        return source

    async def _handle_faults(
        self, messages: list[AnyMessage], faults: Sequence[Exception | None]
    ) -> None:
        """Publish dead letters of the messages that the broker refused.

        Raises Unavailable if the request should be retried.
        """
        retryable = [fault for fault in faults if isinstance(fault, Unavailable)]
        if retryable:
            raise retryable[0]
        if any(
            fault is not None and m.topic != "touchpoints"
            for m, fault in zip(messages, faults, strict=True)
        ):
            raise _dead_letter_lost()
        refused = [
            broker_refusal_message(message, fault)
            for message, fault in zip(messages, faults, strict=True)
            if isinstance(fault, InvalidMessage)
        ]
        if refused and any(await self._publisher.publish(refused, self._seconds)):
            raise _dead_letter_lost()


@lru_cache(maxsize=1_000)
def _counters(source: str) -> tuple[Counter, Counter]:
    """Return a source's counters of touchpoints and of repeats; cached, as the lookup is slow."""
    return metrics.EVENTS_INGESTED.labels(source=source), metrics.EVENTS_REPEATED.labels(
        source=source
    )


def _dead_letter_lost() -> Unavailable:
    return Unavailable("a refused message could not be kept as a dead letter")


def _new_id() -> str:
    return str(uuid.uuid4())
