"""The plays of now, compiled, with what they name; read again only when something has changed."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import yaml

from libs.common.conditions import Condition
from libs.common.db.connection import Connection
from libs.common.documents import parse_document
from libs.common.errors import ConfigurationError
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
from services.orchestrator.repository import contact_reader, plays

log = logs.get_logger(__name__)


class PlaySnapshot(msgspec.Struct, frozen=True):
    """What holds at a moment, by workspace where it belongs to one."""

    mark: tuple[int, str]
    vocabulary: CycleVocabularies
    live: Mapping[str, Mapping[str, Sequence[PlayProgram]]]
    """{workspace: {what starts them: plays}}; paused ones start nothing."""
    timed: Mapping[str, Sequence[PlayProgram]]
    """Those that moments start."""
    paused: frozenset[str]
    """`workspace:play`"""
    segments: Mapping[str, Mapping[str, Condition]]
    watched: Mapping[str, Sequence[WatchedSegment]]
    """The segments whose coming and going is told."""
    contents: Mapping[str, Sequence[ContentItem]]
    destinations: Mapping[tuple[str, str], Destination]
    stopped: frozenset[tuple[str, str]]

    def live_programs(self, workspace: str) -> Iterable[PlayProgram]:
        """Return the plays that are live."""
        published = (
            program for found in self.live.get(workspace, {}).values() for program in found
        )
        return (*published, *self.timed_programs(workspace))

    def timed_programs(self, workspace: str) -> Iterable[PlayProgram]:
        """Return the plays that moments start."""
        return self.timed.get(workspace, ())

    def stop_reason(self, workspace: str, play: str, channel: str) -> str:
        """Return why nothing of a play goes out on a channel now, or nothing."""
        if f"{workspace}:{play}" in self.paused:
            return "play_paused"
        if (workspace, "*") in self.stopped or (workspace, channel) in self.stopped:
            return "kill_switch"
        return ""


EMPTY_SNAPSHOT = PlaySnapshot(
    (-1, ""), CycleVocabularies({}), {}, {}, frozenset(), {}, {}, {}, {}, frozenset()
)


Programs = dict[tuple[str, str, int], PlayProgram | None]


class PlayRegistry:
    """Keeps the snapshot of now, and the programs of every version that an enrollment still runs."""

    def __init__(self, max_age: int | None = None) -> None:
        """`max_age` (µs) overrides that of the plays."""
        self._max_age = max_age
        self._snapshot = EMPTY_SNAPSHOT
        self._programs: Programs = {}
        self._reading = asyncio.Lock()

    async def get_snapshot(self, connection: Connection) -> PlaySnapshot:
        """Return the snapshot as this transaction sees it."""
        cycles = await contact_reader.get_cycles_mark(connection)
        mark = (await plays.get_change_counter(connection), cycles)
        async with self._reading:
            if mark != self._snapshot.mark:
                self._snapshot, self._programs = await self._read(connection, mark)
            return self._snapshot

    async def get_program(
        self, connection: Connection, workspace: str, play: str, number: int
    ) -> PlayProgram | None:
        """Return a version of a play; None, with an error in the log, if this release cannot run it."""
        key, programs, segments = (workspace, play, number), self._programs, self._snapshot.segments
        if key not in programs:
            text = await plays.get_text(connection, *key)
            programs[key] = self._compiled(workspace, number, text, play, segments)
        return programs[key]

    async def _read(
        self, connection: Connection, mark: tuple[int, str]
    ) -> tuple[PlaySnapshot, Programs]:
        programs: Programs = {}
        words = {
            name: vocabulary_from_spec(yaml.safe_load(text))
            for name, _, text in await contact_reader.list_live_cycles(connection)
        }
        named = _Named()
        for workspace, kind, name, text in await plays.list_definitions(connection):
            named.take(workspace, kind, name, text)
        segments = named.conditions()
        rows = await plays.list_live_versions(connection)
        live: dict[str, list[PlayProgram]] = {}
        for row in rows:
            program = self._compiled(row.workspace, row.number, row.text, row.play, segments)
            programs[row.workspace, row.play, row.number] = program
            if program is not None and row.status == "live":
                live.setdefault(row.workspace, []).append(program)
        told = frozenset(
            signal(name)
            for found in segments.values()
            for name in found
            for signal in (entry_signal, exit_signal)
        )
        asked = False
        for workspace in {row.workspace for row in rows}:
            texts = [text for _, _, text in await plays.list_versions_in_use(connection, workspace)]
            asked = asked or any(
                _asks_for_more(text, segments.get(workspace, {})) for text in texts
            )
        snapshot = PlaySnapshot(
            mark,
            CycleVocabularies(words, told, asked),
            {workspace: index_by_trigger(found) for workspace, found in live.items()},
            {
                workspace: [one for one in found if is_timed(one)]
                for workspace, found in live.items()
            },
            frozenset(f"{row.workspace}:{row.play}" for row in rows if row.status == "paused"),
            segments,
            {
                workspace: [*named.watched(workspace, live.get(workspace, ()))]
                for workspace in named.segments
            },
            named.contents,
            named.destinations,
            frozenset(await plays.list_stopped_channels(connection)),
        )
        return snapshot, programs

    def _compiled(
        self,
        workspace: str,
        number: int,
        text: str | None,
        name: str,
        segments: Mapping[str, Mapping[str, Condition]],
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


class _Named:
    """What plays name, as it is defined, by workspace."""

    def __init__(self) -> None:
        self.segments: dict[str, list[Segment]] = {}
        self.contents: dict[str, list[ContentItem]] = {}
        self.destinations: dict[tuple[str, str], Destination] = {}

    def take(self, workspace: str, kind: plays.DefinitionKind, name: str, text: str) -> None:
        """Read a definition."""
        if kind == "segment":
            self.segments.setdefault(workspace, []).append(parse_document(Segment, text, name))
        elif kind == "content":
            self.contents.setdefault(workspace, []).append(parse_document(ContentItem, text, name))
        else:
            self.destinations[workspace, name] = parse_document(Destination, text, name)

    def conditions(self) -> dict[str, dict[str, Condition]]:
        """Return the segments' conditions by name."""
        return {
            workspace: {one.segment: one.when for one in found}
            for workspace, found in self.segments.items()
        }

    def watched(self, workspace: str, live: Sequence[PlayProgram]) -> Iterable[WatchedSegment]:
        """Yield the segments that are told of, or for whose coming and going a live play waits."""
        starting = (
            set().union(*(awaited_segments(program.play) for program in live)) if live else set()
        )
        others = self.conditions()[workspace]
        for one in self.segments[workspace]:
            if one.publish or one.segment in starting:
                yield watch_segment(one, others)


def _asks_for_more(text: str, segments: Mapping[str, Condition]) -> bool:
    """Return whether a play's conditions ask for what is gathered only then."""
    try:
        return is_costly(
            [condition for _, condition in iter_conditions(parse_document(Play, text, "play"))],
            segments,
        )
    except ConfigurationError:
        return False  # this release cannot run it
