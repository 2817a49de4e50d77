"""What happens to a request: split, normalised, published; refused messages go to the dead letters with the reason."""

import uuid
from collections.abc import Sequence
from typing import Protocol

import msgspec

from libs.common.clock import Clock
from libs.common.errors import InvalidMessage, Unavailable
from libs.common.messages import Message
from libs.common.observability import metrics
from services.ingest.domain import body
from services.ingest.domain.normalise import normalise
from services.ingest.domain.rate import Rates
from services.ingest.domain.received import Received, Rules
from services.ingest.domain.recent import MessageId, Recent
from services.ingest.domain.source import Source
from services.ingest.handlers.telling import batch_said, message_of, refusal, refusal_of_broker


class PublishPort(Protocol):
    """What the door needs of Kafka."""

    async def publish(self, messages: Sequence[Message], seconds: float) -> Sequence[Exception | None]: ...


class SourcesPort(Protocol):
    """What the door needs to know about write keys."""

    @property
    def loaded(self) -> bool: ...
    def find(self, write_key: str) -> Source | None: ...


class UnknownKey(Exception):  # noqa: N818 - an answer, not a fault of ours
    """No source has this write key: 401."""


class StrangeOrigin(Exception):  # noqa: N818
    """The source does not take what pages of this origin send: 403."""


class TooFast(Exception):  # noqa: N818
    """The source sends faster than it may: 429, and after how many seconds to come again."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


class Request(msgspec.Struct, frozen=True):
    """A tracking request as the API read it."""

    body: bytes
    write_key: str | None
    call_type: str | None
    """None for a batch."""
    origin: str | None = None
    client: str = ""


class Door:
    """Accepts requests: when `accept` returns, Kafka has every message, as a touchpoint or as a dead letter."""

    def __init__(
        self,
        sources: SourcesPort,
        publisher: PublishPort,
        clock: Clock,
        seconds: float,
        rules: Rules,
    ) -> None:
        self._sources = sources
        self._publisher = publisher
        self._clock = clock
        self._seconds = seconds
        self._rules = rules
        self._recent = Recent()
        self._rates = Rates()

    async def accept(self, request: Request) -> int:
        """Publish a request's messages and return how many were accepted and not repeats of accepted ones.

        Raises InvalidMessage when the whole is unreadable, UnknownKey, StrangeOrigin, TooFast, and Unavailable when Kafka
        does not have everything in time (the sender tries again; repeats are dropped by messageId).
        """
        batch = body.split(request.body, is_batch=request.call_type is None)
        source = self.source(request.write_key or batch.write_key)
        received_at = self._clock.now()
        self._admit(source, request.origin, len(batch.messages), received_at)
        said = batch_said(batch.sent_at, batch.context)
        received = Received(source, received_at, _new_id, request.call_type, said, self._rules, request.client)
        fresh: dict[MessageId, Message] = {}
        refused: list[Message] = []
        repeated = 0
        for raw in batch.messages:
            try:
                touchpoint = normalise(body.read(raw), received)
            except InvalidMessage as error:
                refused.append(refusal(raw, error, received))
                continue
            place = (touchpoint.workspace, touchpoint.source, touchpoint.message_id)
            if place in fresh or place in self._recent:
                repeated += 1
            else:
                fresh[place] = message_of(touchpoint)
        await self._publish([*fresh.values(), *refused])
        self._recent.add(fresh, received_at)
        metrics.EVENTS_INGESTED.labels(source=source.name).inc(len(fresh))
        metrics.EVENTS_REPEATED.labels(source=source.name).inc(repeated)
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

    async def _publish(self, messages: list[Message]) -> None:
        faults = await self._publisher.publish(messages, self._seconds)
        waiting = [fault for fault in faults if isinstance(fault, Unavailable)]
        if waiting:
            raise waiting[0]
        if any(fault is not None and m.topic != "touchpoints" for m, fault in zip(messages, faults, strict=True)):
            raise Unavailable("a refused message could not be kept as a dead letter")
        refused = [
            refusal_of_broker(message, fault)
            for message, fault in zip(messages, faults, strict=True)
            if isinstance(fault, InvalidMessage)
        ]
        if refused and any(await self._publisher.publish(refused, self._seconds)):
            raise Unavailable("a refused message could not be kept as a dead letter")


def _new_id() -> str:
    return str(uuid.uuid4())
