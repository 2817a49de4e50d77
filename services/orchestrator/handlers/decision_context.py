"""Collaborators that every decision process shares."""

import msgspec

from libs.common.clock import Clock
from libs.common.db.outbox import Outbox
from services.orchestrator.handlers.play_registry import PlayRegistry


class DecisionContext(msgspec.Struct, frozen=True):
    """The outbox, the play registry and the clock."""

    outbox: Outbox
    registry: PlayRegistry
    clock: Clock
