"""What a play would have done: the same code, run over what was published, with an injected clock.

For each contact the stored signals and stage changes are heard in the order of their instants; between two of them everything
happens that would have been due, to the microsecond. The facts at an instant are what had been published until then: where the
contact stood after its last change (its scores as they were at that change, decayed since), its signals, its consents. Traits are
those of today, since no history of them is published; other plays' mails are not counted against the caps.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from libs.common import ids
from libs.common.instants import DAY
from libs.common.messages import CompellingEvent, Signal, StageChange
from services.orchestrator.domain.action import ActionSpec
from services.orchestrator.domain.condition_evaluator import ConditionTest, condition_holds
from services.orchestrator.domain.contact_facts import ContactFacts, CycleFacts, DecayingScore
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.domain.enrollment import (
    Enrollment,
    EnrollmentProgress,
    advance_enrollment,
    end_enrollment,
    exit_reason,
    goal_reached_at,
)
from services.orchestrator.domain.enrollment_entry import (
    PastEnrollment,
    concerns_enrollment,
    event_starts_play,
    exit_reason_from_events,
    try_enroll,
)
from services.orchestrator.domain.entry_cause import (
    EntryCause,
    TriggerEvent,
    cause_from_event,
    next_timed_cause,
)
from services.orchestrator.domain.gate import GateRules, check_gate
from services.orchestrator.domain.gate_request import build_gate_request, offer_content
from services.orchestrator.domain.play_program import PlayProgram

_CONSENT = {"consent_granted": True, "consent_withdrawn": False}
MAX_ROUNDS = 10_000
"""Of one contact: more is a play that goes round."""


class PublishedHistory(msgspec.Struct, frozen=True):
    """One contact: what was published about it, and its traits of today."""

    contact_id: str
    traits: Mapping[str, Any]
    user_id: str | None
    events: Sequence[TriggerEvent]


class SimulatedStep(msgspec.Struct, frozen=True):
    """One thing that would have happened, at an instant (µs UTC): entered, sent, held, capped, suppressed, skipped."""

    at: int
    contact_id: str
    what: str
    step: str
    reason: str


class SimulationContext(msgspec.Struct, frozen=True):
    """What holds for everybody: the words, the rules of the gate, the catalogue."""

    vocabulary: CycleVocabularies
    rules: GateRules
    contents: Sequence[ContentItem] = ()
    workspace: str = "default"
    segment: ConditionTest | None = None
    """Who belongs to the segment that starts the play."""


def simulate_play(
    program: PlayProgram, story: PublishedHistory, world: SimulationContext, begin: int, end: int
) -> list[SimulatedStep]:
    """Return what a play would have done with a contact between two instants (µs UTC)."""
    return _Simulation(program, story, world, begin, end).run()


def count_by_day(found: Sequence[SimulatedStep]) -> list[tuple[int, dict[str, int]]]:
    """Return how often what happened, day by day: (first instant of the day, {what: count})."""
    days: dict[int, Counter[str]] = {}
    for one in found:
        days.setdefault(one.at // DAY * DAY, Counter())[one.what] += 1
    return [(day, dict(counts)) for day, counts in sorted(days.items())]


class _Simulation:
    def __init__(
        self,
        program: PlayProgram,
        story: PublishedHistory,
        world: SimulationContext,
        begin: int,
        end: int,
    ) -> None:
        self._program, self._story, self._world = program, story, world
        self._begin, self._end = begin, end
        self._facts = ContactFacts(story.contact_id, story.traits, user_id=story.user_id)
        self._runs: dict[str, Enrollment] = {}
        self._pending: list[tuple[int, str, ActionSpec]] = []
        """(due, run, action)"""
        self._sent: list[int] = []
        self._found: list[SimulatedStep] = []
        self._moments = _Moments(program, world)

    def run(self) -> list[SimulatedStep]:
        events = sorted(self._story.events, key=lambda one: (one.occurred_at, one.id))
        for now, at_once in groupby(events, key=lambda one: one.occurred_at):
            if now >= self._end:
                break
            if now >= self._begin:
                self._look_from_now_on()
            self._until(now)
            earlier = (
                self._entries()
            )  # of one instant nothing was heard before the rest, nor did a wait end before it
            for event in at_once:
                self._hear(event, earlier)
            self._act(now)
        self._look_from_now_on()
        self._until(self._end)
        return self._found

    def _look_from_now_on(self) -> None:
        """Begin to look for moments, where the time that is asked about begins."""
        if not self._moments.begun:
            self._moments.begin(self._facts, self._begin)

    def _until(self, end: int) -> None:
        """Let everything happen that is due before an instant."""
        for _ in range(MAX_ROUNDS):
            due = min(self._dues(), default=end)
            if due >= end:
                return
            self._act(due)
        raise ValueError(
            f"play {self._program.play.play} goes round with contact {self._story.contact_id}"
        )

    def _dues(self) -> Iterator[int]:
        yield from (
            run.due_at
            for run in self._runs.values()
            if run.status == "active" and run.due_at is not None
        )
        yield from (due for due, _, _ in self._pending)
        yield from self._moments.dues(self._facts)

    def _act(self, now: int) -> None:
        for occasion in self._moments.come(self._facts, now):
            self._enter(occasion, now, self._entries())
        for run in list(self._runs.values()):
            if run.status == "active" and run.due_at is not None and run.due_at <= now:
                self._go_on(run, now)
        for one in [one for one in self._pending if one[0] <= now]:
            self._pending.remove(one)
            self._decide(one[1], one[2], now)

    def _entries(self) -> list[PastEnrollment]:
        return [PastEnrollment(run.entered_at, run.status) for run in self._runs.values()]

    def _hear(self, event: TriggerEvent, earlier: list[PastEnrollment]) -> None:
        self._facts = _after(self._facts, event, self._world.vocabulary)
        now = event.occurred_at
        if isinstance(event, CompellingEvent) and event.status == "withdrawn":
            for run in list(self._runs.values()):
                if run.event.get("event_id") == event.event_id:
                    self._leave(end_enrollment(run, "exited", "event withdrawn"), now)
        for run in list(self._runs.values()):
            if not concerns_enrollment(self._program, run, [event]):
                continue
            reason = exit_reason_from_events(self._program, run, [event])
            if reason and run.status == "active":
                self._leave(end_enrollment(run, "exited", reason), now)
            else:
                self._go_on(run, now)
        if now >= self._begin and event_starts_play(self._program, event, now):
            self._enter(cause_from_event(event), now, earlier)

    def _enter(self, occasion: EntryCause, now: int, earlier: list[PastEnrollment]) -> None:
        entered = try_enroll(self._program, occasion, self._facts, earlier, now)
        if isinstance(entered, Enrollment) and entered.enrollment_id not in self._runs:
            self._note(now, "held out" if entered.status == "holdout" else "entered")
            self._runs[entered.enrollment_id] = entered
            earlier.append(PastEnrollment(entered.entered_at, entered.status))
            if entered.status == "active":
                self._go_on(entered, now)

    def _go_on(self, run: Enrollment, now: int) -> None:
        goal = self._program.play.goal
        at = goal_reached_at(self._program, goal, run, self._facts, now) if goal else None
        if at is not None and run.goal_at is None:
            self._note(at, "reached the goal")
        run = msgspec.structs.replace(run, goal_at=at)
        progress = (
            advance_enrollment(self._program, run, self._facts, now)
            if run.status == "active"
            else EnrollmentProgress(run)
        )
        self._runs[run.enrollment_id] = progress.run
        self._pending += [(due, run.enrollment_id, action) for action, due in progress.acts]
        if run.status == "active" and progress.run.status == "exited":
            self._leave(progress.run, now)

    def _leave(self, run: Enrollment, now: int) -> None:
        self._runs[run.enrollment_id] = run
        self._note(now, "left", reason=run.reason)
        for one in [one for one in self._pending if one[1] == run.enrollment_id]:
            self._pending.remove(one)
            self._note(now, "skipped", one[2].action, run.reason)

    def _decide(self, run_id: str, action: ActionSpec, now: int) -> None:
        left = exit_reason(self._program, self._runs[run_id], self._facts, now)
        if left:
            self._note(now, "skipped", action.action, left)
            if self._runs[run_id].status == "active":
                self._leave(end_enrollment(self._runs[run_id], "exited", left), now)
            return
        facts = self._facts
        item = offer_content(action, self._world.contents, facts).item
        today = sum(at // DAY == now // DAY for at in self._sent)
        week = sum(at // DAY > now // DAY - 7 for at in self._sent)
        unfit = "no_content" if action.content is not None and item is None else ""
        ask = build_gate_request(action, facts, "there", (today, week), unfit=unfit)
        verdict = check_gate(ask, self._world.rules, now)
        if verdict.status == "held":
            self._pending.append((verdict.until, run_id, action))
        if verdict.status == "send":
            if action.channel == "email" and action.purpose == "marketing":
                self._sent.append(now)
            if item is not None:
                self._facts = msgspec.structs.replace(
                    facts, seen_content={**facts.seen_content, item.content: now}
                )
        self._note(
            now,
            "sent" if verdict.status == "send" else verdict.status,
            action.action,
            verdict.reason,
        )

    def _note(self, at: int, what: str, step: str = "", reason: str = "") -> None:
        self._found.append(SimulatedStep(at, self._story.contact_id, what, step, reason))


class _Moments:
    """The moments that start a play: one longer ago than where the simulation begins starts nothing."""

    def __init__(self, program: PlayProgram, world: SimulationContext) -> None:
        self._program, self._world = program, world
        self._met: set[str] = set()
        self._inside = False
        self._now = 0
        self.begun = False

    def begin(self, facts: ContactFacts, now: int) -> None:
        """Look from now on; who is in the segment by then has not come into it."""
        self.begun, self._now = True, now
        self._inside = self._world.segment is not None and condition_holds(
            self._world.segment, facts, now
        )

    def dues(self, facts: ContactFacts) -> Iterator[int]:
        """Yield when the next one may come."""
        if not self.begun:
            return
        found = next_timed_cause(self._program, self._world.workspace, facts)
        if found is not None and found.at >= self._now and found.id not in self._met:
            yield found.at
        if self._world.segment is not None:
            yield abs(self._world.segment(facts, self._now))

    def come(self, facts: ContactFacts, now: int) -> Iterator[EntryCause]:
        """Yield those that have come."""
        if not self.begun:
            return
        found = next_timed_cause(self._program, self._world.workspace, facts)
        if found is not None and self._now <= found.at <= now and found.id not in self._met:
            self._met.add(found.id)
            yield found
        if self._world.segment is not None:
            before, self._inside = self._inside, condition_holds(self._world.segment, facts, now)
            if self._inside and not before:
                cause = ids.derive_id("segment", self._world.workspace, facts.contact_id, str(now))
                yield EntryCause(cause, self._world.workspace, now, {"occurred_at": now})
        self._now = now


def _after(facts: ContactFacts, event: TriggerEvent, vocabulary: CycleVocabularies) -> ContactFacts:
    """Return what is known after an event."""
    if isinstance(event, Signal):
        signals = {
            **facts.signals,
            event.signal: [*facts.signals.get(event.signal, ()), event.occurred_at],
        }
        consents = facts.consents
        if event.signal in _CONSENT:
            consents = {**consents, "marketing": _CONSENT[event.signal]}
        return msgspec.structs.replace(
            facts, signals=signals, consents=consents, last_act=event.occurred_at
        )
    if isinstance(event, CompellingEvent):
        over = {event.kind} if event.status in ("withdrawn", "expired") else set()
        return msgspec.structs.replace(facts, events=(facts.events | {event.kind}) - over)
    standings = {
        **facts.standings,
        event.cycle: _standing(event, facts.standings.get(event.cycle), vocabulary),
    }
    acted = event.occurred_at if event.cause.kind == "touchpoint" else facts.last_act
    return msgspec.structs.replace(facts, standings=standings, last_act=acted)


def _standing(
    event: StageChange, before: CycleFacts | None, vocabulary: CycleVocabularies
) -> CycleFacts:
    words = vocabulary.cycles.get(event.cycle)
    axes = {
        **(before.axes if before else {}),
        **{name: axis.to for name, axis in event.axes.items()},
    }
    if words is None:
        return CycleFacts(event.stage.to, event.dormant, axes)
    scores = {
        name: DecayingScore(value, event.occurred_at, words.half_lives[name])
        for name, value in event.values.items()
        if name in words.half_lives
    }
    return CycleFacts(
        event.stage.to,
        event.dormant,
        axes,
        scores,
        words.ladders,
        words.rings.get(event.stage.to, 0),
    )
