"""Snapshot of the live plays and of the definitions that they name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from libs.common.conditions import Condition
from libs.common.ids import WorkspaceId
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.play_program import PlayProgram
from services.orchestrator.domain.play_validation import KnownNames
from services.orchestrator.domain.segment import WatchedSegment


class ChangeMark(NamedTuple):
    """State of the definitions: equal marks, equal snapshots."""

    change_counter: int
    cycle_versions: str


class PlaySnapshot(msgspec.Struct, frozen=True):
    """Plays, definitions and channel switches at one mark; the outer key is the workspace."""

    mark: ChangeMark
    vocabulary: CycleVocabularies
    live: Mapping[WorkspaceId, Mapping[str, Sequence[PlayProgram]]]
    """{workspace: {trigger key: plays}}, without paused plays."""
    timed: Mapping[WorkspaceId, Sequence[PlayProgram]]
    """Plays with a timed trigger: silence, date or schedule."""
    paused: frozenset[str]
    """`workspace:play`"""
    segments: Mapping[WorkspaceId, Mapping[str, Condition]]
    watched: Mapping[WorkspaceId, Sequence[WatchedSegment]]
    """Segments whose entries and exits are published as signals."""
    contents: Mapping[WorkspaceId, Sequence[ContentItem]]
    destinations: Mapping[tuple[WorkspaceId, str], Destination]
    stopped: frozenset[tuple[WorkspaceId, str]]
    """(workspace, channel); the channel `*` stands for all."""

    def live_programs(self, workspace: WorkspaceId) -> Iterable[PlayProgram]:
        """Return the live plays of a workspace."""
        by_event = (
            program for programs in self.live.get(workspace, {}).values() for program in programs
        )
        return (*by_event, *self.timed_programs(workspace))

    def timed_programs(self, workspace: WorkspaceId) -> Iterable[PlayProgram]:
        """Return the live plays with a timed trigger."""
        return self.timed.get(workspace, ())

    def stop_reason(self, workspace: WorkspaceId, play: str, channel: str) -> str:
        """Return the reason why a play sends nothing on a channel now, or an empty string."""
        if f"{workspace}:{play}" in self.paused:
            return "play_paused"
        if (workspace, "*") in self.stopped or (workspace, channel) in self.stopped:
            return "kill_switch"
        return ""

    def known_names(self, workspace: WorkspaceId) -> KnownNames:
        """Return the names that a workspace's plays may refer to."""
        return KnownNames(
            self.vocabulary,
            self.segments.get(workspace, {}),
            {
                name: destination.channel
                for (owner, name), destination in self.destinations.items()
                if owner == workspace
            },
            {item.content for item in self.contents.get(workspace, ())},
        )


EMPTY_SNAPSHOT = PlaySnapshot(
    ChangeMark(-1, ""), CycleVocabularies({}), {}, {}, frozenset(), {}, {}, {}, {}, frozenset()
)
