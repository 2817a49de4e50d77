"""What one transaction decides: collected, then written in a few statements."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from libs.common.durations import parse_duration
from libs.common.messages import Message
from libs.common.messages.action import Outcome
from libs.common.observability import metrics
from services.orchestrator.domain.action import ActionSpec
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import (
    Enrollment,
    EnrollmentProgress,
    action_priority,
    advance_enrollment,
)
from services.orchestrator.domain.ledger_ids import action_id
from services.orchestrator.domain.play_program import PlayProgram
from services.orchestrator.handlers.action_messages import action_message, holdout_message
from services.orchestrator.repository import actions, enrollments, referrals
from services.orchestrator.repository.actions import ActionOutcome, ActionRow

WATCH_PERIOD = parse_duration("1d")
"""How long a run is watched beyond its goal's window: events come late."""


class DecisionBatch:
    """Collects decisions at one instant (µs UTC)."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._entered: list[tuple[Enrollment, int]] = []
        self._moved: dict[str, Enrollment] = {}
        self._actions: list[ActionRow] = []
        self._ended: dict[str, tuple[str, str]] = {}
        self._concluded: dict[str, ActionOutcome] = {}
        self._messages: list[Message] = []
        self._codes: set[tuple[str, str, str]] = set()
        self._told: list[tuple[str, str, str, Mapping[str, Any]]] = []
        self._deliveries: list[tuple[str, int, str, str, int]] = []

    def add_enrollment(self, program: PlayProgram, run: Enrollment, facts: ContactFacts) -> None:
        """A run begins, and goes as far as it goes; one that is held out, or has ended already, goes nowhere."""
        progress = (
            advance_enrollment(program, run, facts, self.now)
            if run.status == "active"
            else EnrollmentProgress(run)
        )
        run, goal = progress.enrollment, program.play.goal
        since = max(run.entered_at, self.now)  # what is heard late is watched as long
        self._entered.append((run, since + goal.within + WATCH_PERIOD if goal else 0))
        if run.status == "holdout":
            self._messages.append(holdout_message(run, self.now))
        self._act(program, run, progress.due_actions)

    def add_progress(
        self,
        program: PlayProgram,
        before: Enrollment,
        progress: EnrollmentProgress,
        contact_id: str,
    ) -> None:
        """A run has gone on; one that ends before its steps do takes what is pending with it."""
        if progress.enrollment != before:
            self._moved[before.enrollment_id] = progress.enrollment
        self._act(program, progress.enrollment, progress.due_actions)
        if progress.enrollment.status == "exited":
            self._ended[before.enrollment_id] = (contact_id, progress.enrollment.reason)

    def add_audience_data(self, action: ActionRow, audience: str, what: Mapping[str, Any]) -> None:
        """An advertiser is about to be told of a contact."""
        self._told.append((action.enrollment_id, action.destination, audience, what))

    def add_referral_code(self, workspace: str, code: str, contact_id: str) -> None:
        """A contact is told a code to give to friends."""
        self._codes.add((workspace, code, contact_id))

    def add_recheck(self, run: Enrollment) -> None:
        """A run is looked at again later."""
        self._moved[run.enrollment_id] = run

    def add_exit(self, run: Enrollment, contact_id: str) -> None:
        """A run has ended for a reason of its own."""
        self._moved[run.enrollment_id] = run
        self._ended[run.enrollment_id] = (contact_id, run.reason)

    def add_outcome(self, action: ActionRow, contact_id: str, became: ActionOutcome) -> None:
        """Something became of an action."""
        self._concluded[action.action_id] = became
        if became.status == "held" and (action.status, action.reason) == ("held", became.reason):
            return  # still held: that was told
        self._messages.append(action_message(action, contact_id, became, self.now))
        metrics.ACTIONS.labels(channel=action.channel, status=became.status).inc()

    def has_outcome(self, action_id: str) -> bool:
        """Return whether it was decided already what becomes of an action."""
        return action_id in self._concluded

    def add_reservation(
        self, action: ActionRow, attempt: int, until: int, content: str, counted_day: int
    ) -> None:
        """An attempt is about to be made; nobody else makes it before `until`."""
        became = ActionOutcome(
            "sending", "allowed", until, attempt, content, counted_day=counted_day
        )
        self._concluded[action.action_id] = became

    def add_attempt(
        self, action: ActionRow, outcome: Outcome, detail: str, attempt: int = 0
    ) -> None:
        """An attempt came to something; without a number it is the one that was reserved last."""
        self._deliveries.append(
            (action.action_id, attempt or action.attempts, outcome, detail, self.now)
        )

    async def save(self, connection: Connection, outbox: Outbox) -> None:
        """Write all of it; who entered before enters nothing now."""
        known = {
            run.enrollment_id for run, _ in self._entered
        } - await enrollments.insert_enrollments(connection, self._entered)
        await enrollments.update_enrollments(connection, list(self._moved.values()))
        new = [row for row in self._actions if row.enrollment_id not in known]
        await actions.insert_actions(connection, new, self.now)
        if self._ended:
            for row in await actions.list_open(connection, list(self._ended)):
                if self.has_outcome(row.action_id):
                    continue
                contact_id, reason = self._ended[row.enrollment_id]
                self.add_outcome(row, contact_id, ActionOutcome("skipped", reason))
        await actions.update_outcomes(connection, [*self._concluded.items()], self.now)
        await actions.insert_deliveries(connection, self._deliveries)
        await referrals.insert_codes(connection, self._codes)
        await actions.insert_audience_data(connection, self._told)
        await outbox.insert_messages(connection, self._messages)

    def _act(
        self, program: PlayProgram, run: Enrollment, acts: Sequence[tuple[ActionSpec, int]]
    ) -> None:
        for action, due in acts:
            self._actions.append(
                ActionRow(
                    action_id(run.enrollment_id, action.action), run.enrollment_id, run.workspace, run.contact_id, run.play,
                    action.action, action.channel, action.destination or "", "pending", run.cause, due,
                    priority=action_priority(program.play, run, due),
                )
            )  # fmt: skip
