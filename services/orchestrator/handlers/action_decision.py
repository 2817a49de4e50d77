"""Decision of a dispatch lane's due actions; allowed ones are reserved.

All decisions about a contact are made while the contact is locked: its caps, the state of its
enrollments, and the priority among plays cannot change meanwhile.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from libs.common.ids import ContactId
from libs.common.observability import logs
from services.orchestrator.channels import Channel
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.handlers.case_decision import RECHECK_AFTER, CaseDecider
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.decision_state import (
    ActionCase,
    DecisionRound,
    ReservedAttempt,
)
from services.orchestrator.handlers.locked_contacts import lock_unmerged
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.handlers.play_snapshot import PlaySnapshot
from services.orchestrator.repository import (
    actions,
    audience_members,
    contact_reader,
    enrollments,
    frequency_caps,
)
from services.orchestrator.repository.actions import ActionOutcome, ActionRow, DispatchLane

log = logs.get_logger(__name__)
MAX_ATTEMPTS_PER_ROUND = 8
"""Limit of attempts that a lane makes at once, and so of attempts in doubt after a crash."""
MAX_CONTACTS = 256
"""Limit of contacts per transaction; it is reached where the gate lets few actions through."""
CANDIDATE_FACTOR = 16
"""Due actions that are read for each contact to lock: other processes may lock the first ones."""


class ActionDecider:
    """Decides the due actions of dispatch lanes."""

    def __init__(
        self,
        outbox: Outbox,
        registry: PlayRegistry,
        channels: Mapping[str, Channel],
        rules: GateRules,
        clock: Clock,
        links: MessageLinks,
    ) -> None:
        self._outbox = outbox
        self._registry = registry
        self._clock = clock
        self._cases = CaseDecider(channels, rules, links)
        self._contact_limits: dict[DispatchLane, int] = {}

    async def decide_due(
        self, connection: Connection, lane: DispatchLane
    ) -> list[ReservedAttempt] | None:
        """Decide the due actions of a few contacts and return the reserved attempts.

        Return None if nothing is due, or other processes have locked the contacts.
        """
        now = self._clock.now()
        snapshot = await self._registry.get_snapshot(connection)
        limit = self._contact_limits.get(lane, MAX_ATTEMPTS_PER_ROUND)
        candidates = await actions.list_due_contacts(
            connection, lane, now, max(CANDIDATE_FACTOR * MAX_ATTEMPTS_PER_ROUND, 2 * limit)
        )
        contacts = await lock_unmerged(connection, candidates, limit)
        if not contacts:
            return None
        due = await actions.list_due_actions(connection, lane, contacts, now)
        decision_round = await self._read_round(connection, lane, due, DecisionBatch(now), snapshot)
        reserved: list[ReservedAttempt] = []
        for action in due:
            if len(reserved) == MAX_ATTEMPTS_PER_ROUND:
                break
            if decision_round.batch.has_outcome(action.action_id):
                continue  # another action of the enrollment has ended it
            attempt = await self._decide(connection, action, decision_round)
            if attempt is not None:
                reserved.append(attempt)
                decision_round.add_reserved(attempt)
        is_full = len(reserved) == MAX_ATTEMPTS_PER_ROUND
        self._contact_limits[lane] = (
            MAX_ATTEMPTS_PER_ROUND if is_full else min(MAX_CONTACTS, 2 * limit)
        )
        await frequency_caps.upsert_cap_counts(
            connection, decision_round.counted, lane.channel, now
        )
        await decision_round.batch.save(connection, self._outbox)
        return reserved

    async def _read_round(
        self,
        connection: Connection,
        lane: DispatchLane,
        due: Sequence[ActionRow],
        batch: DecisionBatch,
        snapshot: PlaySnapshot,
    ) -> DecisionRound:
        facts = await contact_reader.get_facts(
            connection, {action.contact_id for action in due}, snapshot.vocabulary
        )
        ids = {action.enrollment_id for action in due}
        by_id = await enrollments.get_by_ids(connection, ids)
        is_audience = lane.channel == "audience"
        member_data = (
            await audience_members.get_member_data(connection, ids) if is_audience and ids else {}
        )
        unfinished = (
            await actions.list_unfinished_audience_actions(connection, ids)
            if is_audience and ids
            else {}
        )
        sent = await self._count_sent(connection, facts, lane.channel, batch.now)
        return DecisionRound(
            snapshot, batch, by_id, facts, sent, member_data, unfinished, Counter(), set()
        )

    async def _count_sent(
        self,
        connection: Connection,
        facts: Mapping[ContactId, ContactFacts],
        channel: str,
        now: int,
    ) -> dict[ContactId, tuple[int, int]]:
        canonical_ids = await contact_reader.get_aliases(
            connection, {of_contact.contact_id for of_contact in facts.values()}
        )
        aliases: dict[ContactId, list[ContactId]] = {}
        for alias, contact in canonical_ids.items():
            aliases.setdefault(contact, []).append(alias)
        return await frequency_caps.count_sent(connection, aliases, channel, now)

    async def _decide(
        self, connection: Connection, action: ActionRow, decision_round: DecisionRound
    ) -> ReservedAttempt | None:
        """Decide one action; an unforeseen error holds it and does not stop the others."""
        facts, batch = decision_round.facts[action.contact_id], decision_round.batch
        enrollment = decision_round.enrollments[action.enrollment_id]
        program = await self._registry.get_program(
            connection, enrollment.workspace, enrollment.play, enrollment.number
        )
        step = program.actions.get(action.step) if program else None
        if program is None or step is None:
            reason = "this release cannot run the play's version"
            batch.add_outcome(
                action, facts.contact_id, ActionOutcome("held", reason, batch.now + RECHECK_AFTER)
            )
            return None
        try:
            audience = step.audience.name if step.audience else ""
            case = ActionCase(
                action,
                step,
                program,
                enrollment,
                facts,
                decision_round.snapshot,
                decision_round.sent[facts.contact_id],
                decision_round.member_data.get(
                    (action.enrollment_id, action.destination, audience)
                ),
                _other_unfinished(action, decision_round),
            )
            return self._cases.decide(case, batch)
        except Exception as error:
            log.exception("decision_failed", play=action.play, step=action.step)
            reason = f"decision failed: {type(error).__name__}"
            batch.add_outcome(
                action, facts.contact_id, ActionOutcome("held", reason, batch.now + RECHECK_AFTER)
            )
            return None


def _other_unfinished(action: ActionRow, decision_round: DecisionRound) -> list[ActionRow]:
    """Return the enrollment's other unfinished actions; reserved ones count as being sent."""
    return [
        msgspec.structs.replace(row, status="sending")
        if row.action_id in decision_round.reserved
        else row
        for row in decision_round.unfinished.get(action.enrollment_id, ())
        if row.action_id != action.action_id
    ]
