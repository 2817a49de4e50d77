"""Timed triggers of a simulated play: silences, dates, schedules and entries into a segment."""

from collections.abc import Iterator

from libs.common import ids
from libs.common.ids import WorkspaceId
from services.orchestrator.domain.condition_evaluator import ConditionTest, condition_holds
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.entry_cause import EntryCause, next_timed_cause
from services.orchestrator.domain.play_program import PlayProgram


class TimedTriggers:
    """Timed triggers of a play; instants before the simulated period start nothing."""

    def __init__(
        self, program: PlayProgram, workspace: WorkspaceId, segment: ConditionTest | None
    ) -> None:
        """`segment` is the condition of the segment that triggers the play, if one does."""
        self._program, self._workspace, self._segment = program, workspace, segment
        self._fired: set[str] = set()
        self._in_segment = False
        self._now = 0
        self.started = False

    def start(self, facts: ContactFacts, now: int) -> None:
        """Evaluate from now on; a contact that is in the segment already does not enter it."""
        self.started, self._now = True, now
        self._in_segment = self._segment is not None and condition_holds(self._segment, facts, now)

    def due_instants(self, facts: ContactFacts) -> Iterator[int]:
        """Yield the instants at which the next trigger may fire."""
        if not self.started:
            return
        cause = next_timed_cause(self._program, self._workspace, facts)
        if cause is not None and cause.at >= self._now and cause.id not in self._fired:
            yield cause.at
        if self._segment is not None:
            yield abs(self._segment(facts, self._now))

    def fire(self, facts: ContactFacts, now: int) -> Iterator[EntryCause]:
        """Yield the causes that are due."""
        if not self.started:
            return
        workspace = self._workspace
        cause = next_timed_cause(self._program, workspace, facts)
        if cause is not None and self._now <= cause.at <= now and cause.id not in self._fired:
            self._fired.add(cause.id)
            yield cause
        segment = self._segment
        if segment is not None:
            before, self._in_segment = self._in_segment, condition_holds(segment, facts, now)
            if self._in_segment and not before:
                cause_id = ids.derive_id("segment", workspace, facts.contact_id, str(now))
                yield EntryCause(cause_id, workspace, now, {"occurred_at": now})
        self._now = now
