"""Listening: consents are kept, events start plays. The same fenced transaction as everywhere."""

from collections.abc import Sequence

from libs.common.access import DEFAULT
from libs.common.clock import Clock
from libs.common.db import offsets
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import InvalidMessage
from libs.common.kafka.dead_letter import dead_letter
from libs.common.kafka.record import Record, spans
from libs.common.messages import AccountStageChange, Message, Signal, StageChange, decode, kind_of
from libs.common.observability import metrics
from services.orchestrator.domain.ledger import action_id, enrollment_id
from services.orchestrator.domain.play import Play
from services.orchestrator.repository import actions as repository

GROUP = "orchestrator"
_MODELS: dict[str, type[Signal] | type[StageChange]] = {"signals": Signal, "stage-changes": StageChange}
_CONSENT = {"consent_granted": True, "consent_withdrawn": False}


class EventHandler:
    """Takes signals and stage changes in."""

    def __init__(self, session: Session, outbox: Outbox, plays: Sequence[Play], clock: Clock) -> None:
        self._session = session
        self._outbox = outbox
        self._plays = plays
        self._clock = clock

    async def next_offset(self, topic: str, partition: int, beginning: int) -> int:
        """Return the offset of record."""
        async with self._session.use() as connection:
            return await offsets.next_offset(connection, "orchestrator", GROUP, (topic, partition), beginning)

    async def handle(self, records: Sequence[Record]) -> int:
        """Keep consents and enrol contacts, in one fenced transaction; return the number of dead letters."""
        dead: list[Message] = []
        async with self._session.use() as connection, unit_of_work(connection):
            await offsets.advance(connection, "orchestrator", GROUP, spans(records))
            for record in records:
                if kind_of(record.headers) == AccountStageChange.KIND:
                    continue  # no play is about accounts yet
                try:
                    event = decode(_MODELS[record.topic], record.value)
                except InvalidMessage as error:
                    metrics.DEAD_LETTERS.labels(service="orchestrator", reason=error.reason).inc()
                    dead.append(dead_letter("orchestrator", record, error))
                    continue
                await self._take(connection, event)
            await self._outbox.write(connection, dead)
        return len(dead)

    async def bury(self, record: Record, error: Exception) -> None:
        """Store one record that cannot be processed as a dead letter."""
        async with self._session.use() as connection, unit_of_work(connection):
            await offsets.advance(connection, "orchestrator", GROUP, spans([record]))
            await self._outbox.write(connection, [dead_letter("orchestrator", record, error)])

    async def _take(self, connection: Connection, event: Signal | StageChange) -> None:
        if isinstance(event, Signal) and event.signal in _CONSENT:
            await repository.put_consent(
                connection, event.workspace, event.contact_id, "marketing", _CONSENT[event.signal], event.occurred_at,
                event.id,
            )  # fmt: skip
        if event.workspace != DEFAULT:
            return  # plays are the default workspace's, and so is the key by which what they send comes back
        now = self._clock.now()
        for play in self._plays:
            if play.starts_on(event, now):
                await self._enroll(connection, play, event, now)

    async def _enroll(self, connection: Connection, play: Play, event: Signal | StageChange, now: int) -> None:
        enrollment = enrollment_id(event.workspace, play.play, event.contact_id, event.id, play.re_entry)
        row = (enrollment, event.workspace, event.contact_id, play.play, play.version, event.id, now)
        if not await repository.enroll(connection, row):
            return
        due = now
        for step in play.steps:
            due += step.wait
            await repository.put_action(
                connection,
                (
                    action_id(enrollment, step.name), enrollment, event.workspace, event.contact_id, play.play,
                    step.name, step.channel, event.id, due, now,
                ),
            )  # fmt: skip
