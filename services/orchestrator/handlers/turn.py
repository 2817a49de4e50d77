"""One turn of a lane: what is known when it decides, and what it has reserved."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.orchestrator.domain.action import Action
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.letter import Letter
from services.orchestrator.domain.program import Program
from services.orchestrator.domain.progress import Run
from services.orchestrator.handlers.decided import Decided
from services.orchestrator.handlers.playbook import Book
from services.orchestrator.repository.actions import ActionRow

Lane = tuple[str, str]
"""A channel and a destination."""


class Reserved(msgspec.Struct, frozen=True):
    """An attempt that is written down and not made yet."""

    action: ActionRow
    facts: Facts
    attempt: int
    letter: Letter
    counts: bool = False
    """Whether it counts against the contact's caps now: marketing that was not counted today."""


class Case(msgspec.Struct, frozen=True):
    """An action that is due, and all that its decision depends on."""

    action: ActionRow
    step: Action
    program: Program
    run: Run
    facts: Facts
    book: Book
    used: tuple[int, int]
    """How much the contact was sent on the channel: today (UTC), this week."""
    told: Mapping[str, Any] | None = None
    """What an advertiser was told of the contact in this run."""
    others: Sequence[ActionRow] = ()
    """The run's other actions on audiences that have not come to an end."""


class Turn(msgspec.Struct):
    """What is known in a turn, by contact; what it decides counts for what is decided after it."""

    book: Book
    decided: Decided
    runs: dict[str, Run]
    known: dict[str, Facts]
    used: dict[str, tuple[int, int]]
    told: dict[tuple[str, str, str], dict[str, Any]]
    unfinished: dict[str, list[ActionRow]]
    counted: Counter[str]
    under_way: set[str]
    """The actions that this turn has reserved."""

    def note(self, one: Reserved) -> None:
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
