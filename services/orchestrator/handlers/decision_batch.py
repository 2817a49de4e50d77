"""Decision batch: the decisions of one transaction, collected and stored in a few statements."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from libs.common.durations import parse_duration
from libs.common.ids import ContactId, WorkspaceId
from libs.common.messages import Message
from libs.common.messages.action import Outcome
from libs.common.observability import metrics
from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import (
    AdvancedEnrollment,
    Enrollment,
    action_priority,
    advance_enrollment,
)
from services.orchestrator.domain.ledger_ids import action_id
from services.orchestrator.domain.play_program import PlayProgram
from services.orchestrator.handlers.action_messages import action_message, holdout_message
from services.orchestrator.repository import (
    actions,
    audience_members,
    deliveries,
    enrollments,
    referrals,
)
from services.orchestrator.repository.actions import ActionOutcome, ActionRow

WATCH_PERIOD = parse_duration("1d")
"""Time for which an enrollment is watched beyond its goal's window, for late events."""


class DecisionBatch:
    """Collects decisions that are made at one instant (µs UTC)."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._entered: list[tuple[Enrollment, int]] = []
        """(enrollment, watched until)"""
        self._changed: dict[str, Enrollment] = {}
        self._actions: list[ActionRow] = []
        self._exited: dict[str, tuple[ContactId, str]] = {}
        """{enrollment id: (contact id, reason)}"""
        self._outcomes: dict[str, ActionOutcome] = {}
        self._messages: list[Message] = []
        self._codes: set[tuple[WorkspaceId, str, ContactId]] = set()
        self._member_data: list[tuple[str, str, str, Mapping[str, Any]]] = []
        self._deliveries: list[tuple[str, int, str, str, int]] = []

    def add_enrollment(
        self, program: PlayProgram, enrollment: Enrollment, facts: ContactFacts
    ) -> None:
        """Add a new enrollment, advanced to its first wait if it is active."""
        progress = (
            advance_enrollment(program, enrollment, facts, self.now)
            if enrollment.status == "active"
            else AdvancedEnrollment(enrollment)
        )
        enrollment, goal = progress.enrollment, program.play.goal
        # An enrollment on a late event is watched for as long as any other.
        since = max(enrollment.entered_at, self.now)
        self._entered.append((enrollment, since + goal.within + WATCH_PERIOD if goal else 0))
        if enrollment.status == "holdout":
            self._messages.append(holdout_message(enrollment, self.now))
        self._add_actions(program, enrollment, progress.due_actions)

    def add_progress(
        self,
        program: PlayProgram,
        before: Enrollment,
        progress: AdvancedEnrollment,
        contact_id: ContactId,
    ) -> None:
        """Add an enrollment's progress; the pending actions of one that exits are skipped."""
        if progress.enrollment != before:
            self._changed[before.enrollment_id] = progress.enrollment
        self._add_actions(program, progress.enrollment, progress.due_actions)
        if progress.enrollment.status == "exited":
            self._exited[before.enrollment_id] = (contact_id, progress.enrollment.reason)

    def add_audience_data(self, action: ActionRow, audience: str, data: Mapping[str, Any]) -> None:
        """Add the data about a contact that an advertiser is about to receive."""
        self._member_data.append((action.enrollment_id, action.destination, audience, data))

    def add_referral_code(self, workspace: WorkspaceId, code: str, contact_id: ContactId) -> None:
        """Add a referral code that a message gives to its contact."""
        self._codes.add((workspace, code, contact_id))

    def add_recheck(self, enrollment: Enrollment) -> None:
        """Add an enrollment with its next due instant."""
        self._changed[enrollment.enrollment_id] = enrollment

    def add_exit(self, enrollment: Enrollment, contact_id: ContactId) -> None:
        """Add an enrollment that has exited; its pending actions are skipped."""
        self._changed[enrollment.enrollment_id] = enrollment
        self._exited[enrollment.enrollment_id] = (contact_id, enrollment.reason)

    def add_outcome(self, action: ActionRow, contact_id: ContactId, outcome: ActionOutcome) -> None:
        """Add an action's outcome, with its message unless the action stays held as before."""
        self._outcomes[action.action_id] = outcome
        if outcome.status == "held" and (action.status, action.reason) == ("held", outcome.reason):
            return
        self._messages.append(action_message(action, contact_id, outcome, self.now))
        metrics.ACTIONS.labels(channel=action.channel, status=outcome.status).inc()

    def has_outcome(self, action_id: str) -> bool:
        """Return whether the batch has an outcome of the action."""
        return action_id in self._outcomes

    def add_reservation(
        self, action: ActionRow, attempt: int, until: int, content: str, counted_day: int
    ) -> None:
        """Reserve an attempt; no other process makes it before `until` (µs UTC)."""
        self._outcomes[action.action_id] = ActionOutcome(
            "sending", "allowed", until, attempt, content, counted_day=counted_day
        )

    def add_attempt(
        self, action: ActionRow, outcome: Outcome, detail: str, attempt: int = 0
    ) -> None:
        """Add the outcome of an attempt, by default of the one that was reserved last."""
        self._deliveries.append(
            (action.action_id, attempt or action.attempts, outcome, detail, self.now)
        )

    async def save(self, connection: Connection, outbox: Outbox) -> None:
        """Store the batch; enrollments that exist already are ignored with their actions."""
        entered = {enrollment.enrollment_id for enrollment, _ in self._entered}
        existing = entered - await enrollments.insert_enrollments(connection, self._entered)
        await enrollments.update_enrollments(connection, list(self._changed.values()))
        new_actions = [row for row in self._actions if row.enrollment_id not in existing]
        await actions.insert_actions(connection, new_actions, self.now)
        if self._exited:
            for row in await actions.list_open(connection, list(self._exited)):
                if self.has_outcome(row.action_id):
                    continue
                contact_id, reason = self._exited[row.enrollment_id]
                self.add_outcome(row, contact_id, ActionOutcome("skipped", reason))
        await actions.update_outcomes(connection, [*self._outcomes.items()], self.now)
        await deliveries.insert_deliveries(connection, self._deliveries)
        await referrals.insert_codes(connection, self._codes)
        await audience_members.insert_member_data(connection, self._member_data)
        await outbox.insert_messages(connection, self._messages)

    def _add_actions(
        self,
        program: PlayProgram,
        enrollment: Enrollment,
        due_actions: Sequence[tuple[ActionSpec, int]],
    ) -> None:
        for action, due in due_actions:
            self._actions.append(
                ActionRow(
                    action_id(enrollment.enrollment_id, action.action),
                    enrollment.enrollment_id,
                    enrollment.workspace,
                    enrollment.contact_id,
                    enrollment.play,
                    action.action,
                    action.channel,
                    action.destination or "",
                    "pending",
                    enrollment.cause,
                    due,
                    priority=action_priority(program.play, enrollment, due),
                )
            )
