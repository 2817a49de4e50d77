"""Registry of compiled plays; read again only after a change of plays, definitions or cycles."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import yaml

from libs.common.conditions import Condition
from libs.common.db.connection import Connection
from libs.common.documents import parse_document
from libs.common.errors import ConfigurationError
from libs.common.ids import WorkspaceId
from libs.common.observability import logs
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies, vocabulary_from_spec
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.enrollment_entry import index_by_trigger, is_timed
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.play_program import PlayProgram, compile_play, iter_conditions
from services.orchestrator.domain.segment import (
    Segment,
    WatchedSegment,
    awaited_segments,
    entry_signal,
    exit_signal,
    is_costly,
    watch_segment,
)
from services.orchestrator.handlers.play_snapshot import EMPTY_SNAPSHOT, ChangeMark, PlaySnapshot
from services.orchestrator.repository import (
    changes,
    channel_switches,
    plays,
    scoring_views,
)
from services.orchestrator.repository import definitions as repository
from services.orchestrator.repository.definitions import DefinitionKind

log = logs.get_logger(__name__)
Programs = dict[tuple[WorkspaceId, str, int], PlayProgram | None]
"""{(workspace, play, version): program}; None for a version that this release cannot run."""
Conditions = Mapping[WorkspaceId, Mapping[str, Condition]]
"""{workspace: {segment: condition}}"""


class PlayRegistry:
    """Caches the current snapshot, and the programs of all versions that enrollments run."""

    def __init__(self, max_age: int | None = None) -> None:
        """`max_age` (µs) overrides that of the plays."""
        self._max_age = max_age
        self._snapshot = EMPTY_SNAPSHOT
        self._programs: Programs = {}
        self._reading = asyncio.Lock()

    async def get_snapshot(self, connection: Connection) -> PlaySnapshot:
        """Return the snapshot that the connection's transaction sees."""
        cycles_mark = await scoring_views.get_cycles_mark(connection)
        mark = ChangeMark(await changes.get_change_counter(connection), cycles_mark)
        async with self._reading:
            if mark != self._snapshot.mark:
                self._snapshot, self._programs = await self._read(connection, mark)
            return self._snapshot

    async def get_program(
        self, connection: Connection, workspace: WorkspaceId, play: str, number: int
    ) -> PlayProgram | None:
        """Return a version of a play, or None (and log an error) if this release cannot run it."""
        key, programs, segments = (workspace, play, number), self._programs, self._snapshot.segments
        if key not in programs:
            text = await plays.get_text(connection, *key)
            programs[key] = self._compile(workspace, number, text, play, segments)
        return programs[key]

    async def _read(
        self, connection: Connection, mark: ChangeMark
    ) -> tuple[PlaySnapshot, Programs]:
        vocabularies = {
            name: vocabulary_from_spec(yaml.safe_load(text))
            for name, _, text in await scoring_views.list_live_cycles(connection)
        }
        definitions = _Definitions()
        for workspace, kind, name, text in await repository.list_definitions(connection):
            definitions.add(workspace, kind, name, text)
        segments = definitions.conditions()
        rows = await plays.list_live_versions(connection)
        programs: Programs = {}
        live: dict[WorkspaceId, list[PlayProgram]] = {}
        for row in rows:
            program = self._compile(row.workspace, row.number, row.text, row.play, segments)
            programs[row.workspace, row.play, row.number] = program
            if program is not None and row.status == "live":
                live.setdefault(row.workspace, []).append(program)
        needs_costly_facts = await _need_costly_facts(
            connection, {row.workspace for row in rows}, segments
        )
        snapshot = PlaySnapshot(
            mark,
            CycleVocabularies(vocabularies, _segment_signals(segments), needs_costly_facts),
            {workspace: index_by_trigger(started) for workspace, started in live.items()},
            {
                workspace: [program for program in started if is_timed(program)]
                for workspace, started in live.items()
            },
            frozenset(f"{row.workspace}:{row.play}" for row in rows if row.status == "paused"),
            segments,
            {
                workspace: [*definitions.watched(workspace, live.get(workspace, ()))]
                for workspace in definitions.segments
            },
            definitions.contents,
            definitions.destinations,
            frozenset(await channel_switches.list_stopped_channels(connection)),
        )
        return snapshot, programs

    def _compile(
        self, workspace: WorkspaceId, number: int, text: str | None, name: str, segments: Conditions
    ) -> PlayProgram | None:
        if text is None:
            return None
        try:
            play = parse_document(Play, text, name)
            if self._max_age is not None:
                play = play.model_copy(update={"max_age": self._max_age})
            return compile_play(play, number, segments.get(workspace, {}))
        except (ConfigurationError, ValueError) as error:
            log.critical(
                "play_unusable", play=name, version=number, error=str(error), cure="publish it anew"
            )
            return None


class _Definitions:
    """The definitions by workspace."""

    def __init__(self) -> None:
        self.segments: dict[WorkspaceId, list[Segment]] = {}
        self.contents: dict[WorkspaceId, list[ContentItem]] = {}
        self.destinations: dict[tuple[WorkspaceId, str], Destination] = {}

    def add(self, workspace: WorkspaceId, kind: DefinitionKind, name: str, text: str) -> None:
        """Parse a definition."""
        if kind == "segment":
            self.segments.setdefault(workspace, []).append(parse_document(Segment, text, name))
        elif kind == "content":
            self.contents.setdefault(workspace, []).append(parse_document(ContentItem, text, name))
        else:
            self.destinations[workspace, name] = parse_document(Destination, text, name)

    def conditions(self) -> dict[WorkspaceId, dict[str, Condition]]:
        """Return the segments' conditions by workspace and name."""
        return {
            workspace: {segment.segment: segment.when for segment in segments}
            for workspace, segments in self.segments.items()
        }

    def watched(
        self, workspace: WorkspaceId, live: Sequence[PlayProgram]
    ) -> Iterable[WatchedSegment]:
        """Yield the segments that are published, or awaited by a live play."""
        awaited = (
            set().union(*(awaited_segments(program.play) for program in live)) if live else set()
        )
        conditions = self.conditions()[workspace]
        for segment in self.segments[workspace]:
            if segment.publish or segment.segment in awaited:
                yield watch_segment(segment, conditions)


def _segment_signals(segments: Conditions) -> frozenset[str]:
    return frozenset(
        signal(name)
        for conditions in segments.values()
        for name in conditions
        for signal in (entry_signal, exit_signal)
    )


async def _need_costly_facts(
    connection: Connection, workspaces: Iterable[WorkspaceId], segments: Conditions
) -> bool:
    """Return whether a version in use has a condition of a costly kind."""
    for workspace in workspaces:
        for _, _, text in await plays.list_versions_in_use(connection, workspace):
            if _has_costly_conditions(text, segments.get(workspace, {})):
                return True
    return False


def _has_costly_conditions(text: str, segments: Mapping[str, Condition]) -> bool:
    try:
        return is_costly(
            [condition for _, condition in iter_conditions(parse_document(Play, text, "play"))],
            segments,
        )
    except ConfigurationError:
        return False  # this release cannot run it
