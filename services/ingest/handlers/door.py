"""What happens to a request: split, normalised, published; refused messages go to the dead letters with the reason."""

import asyncio
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from prometheus_client import Counter

from libs.common.clock import Clock
from libs.common.errors import InvalidMessage, NotFound, Unavailable
from libs.common.kafka.wire.encoded_record import AnyMessage
from libs.common.observability import metrics
from libs.common.observability.tracing import start_span
from services.ingest.adapters import Hook
from services.ingest.adapters.known import ADAPTERS
from services.ingest.domain import body
from services.ingest.domain.batch import Batch, read
from services.ingest.domain.frames import FrameStore
from services.ingest.domain.rate import Rates
from services.ingest.domain.received import BatchSaid, Received, Rules
from services.ingest.domain.recent import Recent
from services.ingest.domain.source import Source
from services.ingest.handlers.adapted import events_of
from services.ingest.handlers.reading import Reading, adapted, tracking
from services.ingest.handlers.telling import refusal, refusal_of_broker


class PublishPort(Protocol):
    """What the door needs of Kafka."""

    async def publish(self, messages: Sequence[AnyMessage], seconds: float) -> Sequence[Exception | None]: ...


class SourcesPort(Protocol):
    """What the door needs to know about write keys."""

    @property
    def loaded(self) -> bool: ...
    def find(self, write_key: str) -> Source | None: ...


class UnknownKey(Exception):  # noqa: N818 - an answer, not a fault of ours
    """No source has this write key: 401."""


class StrangeOrigin(Exception):  # noqa: N818
    """The source does not take what pages of this origin send: 403."""


class HooksOnly(Exception):  # noqa: N818
    """The source takes what is signed, at its hook, and nothing else: 403."""


class TooFast(Exception):  # noqa: N818
    """The source sends faster than it may: 429, and after how many seconds to come again."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


_ABOUT: dict[str, Any] = {
    "messaging.system": "kafka",
    "messaging.destination.name": "touchpoints",
    "messaging.operation.type": "send",
}


class Request(msgspec.Struct, frozen=True):
    """A tracking request as the API read it."""

    body: bytes
    source: Source | None
    """Whose key came with it; None where its body has to say it."""
    call_type: str | None
    """None for a batch."""
    origin: str | None = None
    client: str = ""
    trace: bytes | None = None


class Door:
    """Accepts requests: when `accept` returns, Kafka has every message, as a touchpoint or as a dead letter."""

    def __init__(
        self,
        sources: SourcesPort,
        publisher: PublishPort,
        clock: Clock,
        seconds: float,
        rules: Rules,
        *,
        fast: bool = True,
    ) -> None:
        """Plain calls are read by their frames if `fast`, which pays where that is compiled."""
        self._sources = sources
        self._publisher = publisher
        self._clock = clock
        self._seconds = seconds
        self._rules = rules
        self._recent = Recent()
        self._rates = Rates()
        self._frames = FrameStore() if fast else None

    async def accept(self, request: Request) -> int:
        """Publish a request's messages and return how many were accepted and not repeats of accepted ones.

        Raises InvalidMessage when the whole is unreadable or a part of it too large to be kept, UnknownKey, HooksOnly,
        StrangeOrigin, TooFast, and Unavailable when Kafka does not have everything in time (the sender tries again; repeats
        are dropped by messageId).
        """
        batch = read(request.body, is_batch=request.call_type is None)
        source = request.source or self.source(batch.write_key)
        if source.signing_secret is not None:  # its key stands in an address, for a sender that proves who it is
            raise HooksOnly
        said = BatchSaid(batch.sent_at, batch.context)
        with start_span("publish touchpoints", "PRODUCER", request.trace, _ABOUT) as trace:
            received = Received(
                source, self._clock.now(), _new_id, request.call_type, said, self._rules, request.client, trace=trace
            )
            return await self._take(received, batch, tracking(received, batch, self._frames), request.origin)

    async def hook(self, hook: Hook, source: Source | None) -> int:
        """Publish what another system sends in its own shape; the source says whose shape it is.

        Raises InvalidMessage, UnknownKey, TooFast, Unavailable, NotFound for a source without an adapter, BadSignature.
        """
        if source is None:
            raise UnknownKey
        adapter = ADAPTERS.get(source.adapter or "")
        if adapter is None:
            raise NotFound(f"source {source.name} has no adapter: 'perigee source set {source.name} --adapter …'")
        now = self._clock.now()
        document = body.document(hook.body)
        if adapter.check is not None:
            adapter.check(hook, document, source.signing_secret or "", now)
        name = source.adapter or ""
        received = Received(source, now, _new_id, rules=self._rules, adapter=name)
        try:
            events = events_of(name, source, document)
        except body.TooLarge:
            raise
        except InvalidMessage as error:  # signed, but not as the mapping says: kept until that is mended
            body.check_kept([hook.body])
            self._admit(source, None, 1, now)
            if any(await self._publisher.publish([refusal(hook.body, error, received, document=True)], self._seconds)):
                raise _unkept() from None
            return 0
        return await self._take(received, Batch(events), adapted(name, received), None)

    async def _take(self, received: Received, batch: Batch, reading: Reading, origin: str | None) -> int:
        """Publish what is read of a request's messages."""
        source, at, count = received.source, 0, len(batch.messages)
        self._admit(source, origin, count, received.received_at)
        while at < count:
            at = reading.stretch(batch.messages, at)
            if at < count:
                await asyncio.sleep(0)  # the others' turn
        fresh = reading.touchpoints
        for place in self._recent.among(fresh):
            del fresh[place]
        messages = [*fresh.values(), *reading.refused]
        faults = await self._publisher.publish(messages, self._seconds)
        if any(faults):
            await self._make_good(messages, faults)
        self._recent.add(fresh, received.received_at)
        taken, repeated = _counters(source.name)
        taken.inc(len(fresh))
        if len(fresh) < reading.count:
            repeated.inc(reading.count - len(fresh))
        return len(fresh)

    def _admit(self, source: Source, origin: str | None, count: int, now: int) -> None:
        if not source.allows(origin):
            raise StrangeOrigin
        if source.per_second is not None:
            seconds = self._rates.take((source.workspace, source.name), source.per_second, count, now)
            if seconds:
                metrics.EVENTS_REFUSED.labels(reason="too_fast").inc(count)
                raise TooFast(seconds)

    def source(self, write_key: str | None) -> Source:
        """Return whose key this is. Raises UnknownKey, and Unavailable as long as the keys could not be read."""
        if not self._sources.loaded:
            raise Unavailable("the sources are not read yet: PostgreSQL has not answered since the start")
        source = self._sources.find(write_key) if write_key else None
        if source is None:
            raise UnknownKey
        return source

    async def _make_good(self, messages: list[AnyMessage], faults: Sequence[Exception | None]) -> None:
        """Keep as dead letters what the broker never takes. Raises Unavailable for what may be sent again."""
        waiting = [fault for fault in faults if isinstance(fault, Unavailable)]
        if waiting:
            raise waiting[0]
        if any(fault is not None and m.topic != "touchpoints" for m, fault in zip(messages, faults, strict=True)):
            raise _unkept()
        refused = [
            refusal_of_broker(message, fault)
            for message, fault in zip(messages, faults, strict=True)
            if isinstance(fault, InvalidMessage)
        ]
        if refused and any(await self._publisher.publish(refused, self._seconds)):
            raise _unkept()


@lru_cache(maxsize=1_000)
def _counters(source: str) -> tuple[Counter, Counter]:
    """Return a source's counters of touchpoints taken and of repeats; looking them up takes longer than counting."""
    return metrics.EVENTS_INGESTED.labels(source=source), metrics.EVENTS_REPEATED.labels(source=source)


def _unkept() -> Unavailable:
    return Unavailable("a refused message could not be kept as a dead letter")


def _new_id() -> str:
    return str(uuid.uuid4())
