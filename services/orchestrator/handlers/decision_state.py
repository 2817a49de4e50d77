"""State of one decision round of a dispatch lane: its inputs, and the attempts reserved so far."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from libs.common.ids import ContactId
from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.play_program import PlayProgram
from services.orchestrator.domain.rendered_message import RenderedMessage
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.handlers.play_snapshot import PlaySnapshot
from services.orchestrator.repository.actions import ActionRow


class ReservedAttempt(msgspec.Struct, frozen=True):
    """An attempt that is reserved in the ledger and not made yet."""

    action: ActionRow
    facts: ContactFacts
    attempt: int
    message: RenderedMessage
    is_counted_now: bool = False
    """Whether it counts against the caps now: marketing that was not counted today."""


class ActionCase(msgspec.Struct, frozen=True):
    """A due action with everything on which its decision depends."""

    action: ActionRow
    step: ActionSpec
    program: PlayProgram
    enrollment: Enrollment
    facts: ContactFacts
    snapshot: PlaySnapshot
    sent: tuple[int, int]
    """Messages to the contact on the channel: (today in UTC, this week)."""
    member_data: Mapping[str, Any] | None = None
    """Data about the contact that the advertiser has received in this enrollment."""
    unfinished: Sequence[ActionRow] = ()
    """The enrollment's other ad-audience actions that are not finished."""


class DecisionRound(msgspec.Struct):
    """Inputs of a round by contact or enrollment; earlier decisions count for later ones."""

    snapshot: PlaySnapshot
    batch: DecisionBatch
    enrollments: dict[str, Enrollment]
    facts: dict[ContactId, ContactFacts]
    sent: dict[ContactId, tuple[int, int]]
    member_data: dict[tuple[str, str, str], dict[str, Any]]
    unfinished: dict[str, list[ActionRow]]
    counted: Counter[str]
    """New messages by contact that count against the caps."""
    reserved: set[str]
    """Ids of the actions that this round has reserved."""

    def add_reserved(self, reserved: ReservedAttempt) -> None:
        """Count a reserved attempt."""
        action, contact = reserved.action, reserved.facts.contact_id
        self.reserved.add(action.action_id)
        if reserved.is_counted_now:
            self.counted[contact] += 1
            self.sent[contact] = (self.sent[contact][0] + 1, self.sent[contact][1] + 1)
        if action.content:
            facts = self.facts[action.contact_id]
            seen = {**facts.seen_content, action.content: self.batch.now}
            self.facts[action.contact_id] = msgspec.structs.replace(facts, seen_content=seen)
