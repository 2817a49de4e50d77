"""Consumer of signals, stage changes and compelling events.

Each batch is stored in one transaction, under the offset fence: consents, signals, referrals and
drop-offs first, then the enrollments, segments and sweeps that the events concern.
"""

from collections.abc import Sequence

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db import offsets
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import InvalidMessage
from libs.common.kafka.dead_letters import build_dead_letter
from libs.common.kafka.record import Record, offset_ranges
from libs.common.messages import (
    AccountStageChange,
    CompellingEvent,
    Message,
    Signal,
    StageChange,
    decode_value,
    event_type_of,
)
from libs.common.observability import metrics
from services.orchestrator.domain.entry_cause import TriggerEvent
from services.orchestrator.handlers.contact_sweeps import start_event_sweeps
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.dropoff_audiences import store_dropoffs
from services.orchestrator.handlers.event_enrollments import EventEnroller
from services.orchestrator.handlers.referrals import store_referrals
from services.orchestrator.repository import consents, contact_lookup, seen_signals

GROUP = "orchestrator"
TOPICS = ("signals", "stage-changes", "compelling-events")
_MODELS: dict[str, type[TriggerEvent]] = {
    "signals": Signal,
    "stage-changes": StageChange,
    "compelling-events": CompellingEvent,
}
_CONSENT = {"consent_granted": True, "consent_withdrawn": False}
_MAIL_SUPPRESSIONS = {
    "mail_bounced": "bounced",
    "mail_complained": "complained",
    "mail_unsubscribed": "unsubscribed",
}
"""Reasons by the signals after which no play sends e-mails to the contact."""


class EventHandler:
    """Stores batches of events with their effects."""

    def __init__(self, session: Session, context: DecisionContext) -> None:
        self._session = session
        self._outbox, self._registry, self._clock = context.outbox, context.registry, context.clock
        self._enroller = EventEnroller(context)

    async def next_offset(self, topic: str, partition: int, beginning: int) -> int:
        """Return the stored offset of a partition; a new partition starts at `beginning`."""
        async with self._session.acquire() as connection:
            return await offsets.upsert_next_offset(
                connection, "orchestrator", GROUP, (topic, partition), beginning
            )

    async def handle(self, records: Sequence[Record]) -> int:
        """Process records in one fenced transaction; return the number of dead letters."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await offsets.update_offsets(connection, "orchestrator", GROUP, offset_ranges(records))
            events, dead_letters = _decode(records)
            await self._apply(connection, events)
            await self._outbox.insert_messages(connection, dead_letters)
        return len(dead_letters)

    async def store_dead_letter(self, record: Record, error: Exception) -> None:
        """Store one record that cannot be processed as a dead letter."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await offsets.update_offsets(connection, "orchestrator", GROUP, offset_ranges([record]))
            await self._outbox.insert_messages(
                connection, [build_dead_letter("orchestrator", record, error)]
            )

    async def _apply(self, connection: Connection, events: Sequence[TriggerEvent]) -> None:
        signals = [event for event in events if isinstance(event, Signal)]
        changes = [event for event in events if isinstance(event, StageChange)]
        snapshot = await self._registry.get_snapshot(connection)
        await _store_signals(connection, signals)
        own_signals = [s for s in signals if s.workspace == DEFAULT_WORKSPACE]
        await store_referrals(connection, snapshot.vocabulary, own_signals, self._clock.now())
        await store_dropoffs(connection, snapshot.vocabulary, changes)
        # Plays belong to the default workspace, as does the write key of the touchpoint echo.
        own_events = [event for event in events if event.workspace == DEFAULT_WORKSPACE]
        about_contacts = [event for event in own_events if event.contact_id is not None]
        if about_contacts:
            await self._enroller.apply(connection, snapshot, about_contacts)
        compelling = [event for event in own_events if isinstance(event, CompellingEvent)]
        await start_event_sweeps(connection, snapshot, compelling, self._clock.now())
        await self._enroller.withdraw(
            connection, [event.event_id for event in compelling if event.status == "withdrawn"]
        )


async def _store_signals(connection: Connection, signals: Sequence[Signal]) -> None:
    """Store signals, the consents in them, and the suppressions that follow from new ones."""
    new = await seen_signals.insert_signals(
        connection, [(s.contact_id, s.signal, s.occurred_at, s.id) for s in signals]
    )
    await consents.upsert_consents(
        connection,
        [
            consents.ConsentRow(
                s.workspace, s.contact_id, "marketing", _CONSENT[s.signal], s.occurred_at, s.id
            )
            for s in signals
            if s.signal in _CONSENT
        ],
    )
    await _suppress_mails(
        connection, [s for s in signals if s.signal in _MAIL_SUPPRESSIONS and s.id in new]
    )


async def _suppress_mails(connection: Connection, signals: Sequence[Signal]) -> None:
    """Suppress e-mails after bounces, complaints and unsubscriptions.

    A bounce concerns the address. A complaint or an unsubscription concerns the contact too, and
    the contacts that claim its address: no address of theirs gets e-mails.
    """
    addresses, contacts = list[tuple[str, str, str]](), list[tuple[str, str, str]]()
    for s in signals:
        digest, reason = s.properties.get("email_sha256"), _MAIL_SUPPRESSIONS[s.signal]
        address = digest[:64] if isinstance(digest, str) else ""
        if address:
            addresses.append((s.workspace, address, reason))
        if not address or s.signal != "mail_bounced":
            claiming = await contact_lookup.list_claiming_address(connection, s.contact_id, address)
            contacts += [(contact, "email", reason) for contact in {s.contact_id, *claiming}]
    await consents.insert_address_suppressions(connection, addresses)
    await consents.insert_suppressions(connection, contacts)


def _decode(records: Sequence[Record]) -> tuple[list[TriggerEvent], list[Message]]:
    """Return the events of records, and dead letters of the records that are invalid."""
    events: list[TriggerEvent] = []
    dead_letters: list[Message] = []
    for record in records:
        if event_type_of(record.headers) == AccountStageChange.KIND:
            continue  # no trigger concerns accounts' stage changes yet
        try:
            events.append(decode_value(_MODELS[record.topic], record.value))
        except InvalidMessage as error:
            metrics.DEAD_LETTERS.labels(service="orchestrator", reason=error.reason).inc()
            dead_letters.append(build_dead_letter("orchestrator", record, error))
    return events, dead_letters
