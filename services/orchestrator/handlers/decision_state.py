"""One turn of a lane: what is known when it decides, and what it has reserved."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.orchestrator.domain.action import ActionSpec
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.play_program import PlayProgram
from services.orchestrator.domain.rendered_message import RenderedMessage
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.play_registry import PlaySnapshot
from services.orchestrator.repository.actions import ActionRow

DispatchLane = tuple[str, str]
"""A channel and a destination."""


class ReservedAttempt(msgspec.Struct, frozen=True):
    """An attempt that is written down and not made yet."""

    action: ActionRow
    facts: ContactFacts
    attempt: int
    letter: RenderedMessage
    counts: bool = False
    """Whether it counts against the contact's caps now: marketing that was not counted today."""


class ActionCase(msgspec.Struct, frozen=True):
    """An action that is due, and all that its decision depends on."""

    action: ActionRow
    step: ActionSpec
    program: PlayProgram
    run: Enrollment
    facts: ContactFacts
    snapshot: PlaySnapshot
    used: tuple[int, int]
    """How much the contact was sent on the channel: today (UTC), this week."""
    told: Mapping[str, Any] | None = None
    """What an advertiser was told of the contact in this run."""
    others: Sequence[ActionRow] = ()
    """The run's other actions on audiences that have not come to an end."""


class DecisionRound(msgspec.Struct):
    """What is known in a turn, by contact; what it decides counts for what is decided after it."""

    snapshot: PlaySnapshot
    decided: DecisionBatch
    runs: dict[str, Enrollment]
    known: dict[str, ContactFacts]
    used: dict[str, tuple[int, int]]
    told: dict[tuple[str, str, str], dict[str, Any]]
    unfinished: dict[str, list[ActionRow]]
    counted: Counter[str]
    under_way: set[str]
    """The actions that this turn has reserved."""

    def add_reserved(self, one: ReservedAttempt) -> None:
        """Let what is reserved count."""
        action, contact = one.action, one.facts.contact_id
        self.under_way.add(action.action_id)
        if one.counts:
            self.counted[contact] += 1
            self.used[contact] = (self.used[contact][0] + 1, self.used[contact][1] + 1)
        if action.content:
            facts = self.known[action.contact_id]
            seen = {**facts.seen_content, action.content: self.decided.now}
            self.known[action.contact_id] = msgspec.structs.replace(facts, seen_content=seen)
