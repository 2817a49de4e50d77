"""What a marketer does with plays: publish, pause, go back, and ask what they came to."""

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.clock import Clock
from libs.common.conditions import referenced_segments
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.documents import format_fault, parse_document
from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.instants import DAY
from services.orchestrator.domain.condition_references import reference_faults
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.conversion_rate import ConversionRate, wilson_rate
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.maturity import BASELINE, Maturity, PlayUsage, assess_maturity
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.play_program import iter_actions, iter_conditions
from services.orchestrator.domain.play_validation import KnownNames, validate_play
from services.orchestrator.domain.segment import Segment, awaited_segments
from services.orchestrator.handlers.play_registry import PlayRegistry, PlaySnapshot
from services.orchestrator.repository import actions, consents, enrollments, segment_members
from services.orchestrator.repository import plays as repository
from services.orchestrator.repository.plays import DefinitionKind, PlayRow

_MODELS: Mapping[DefinitionKind, type[ContentItem] | type[Segment] | type[Destination]] = {
    "content": ContentItem,
    "segment": Segment,
    "destination": Destination,
}


class PlayView(msgspec.Struct, frozen=True):
    """A play as an operator sees it."""

    play: str
    number: int
    status: str
    kind: str
    trigger: str
    author: str
    published_at: str


class PlayService:
    """Changes and shows the plays of a workspace."""

    def __init__(
        self, session: Session, registry: PlayRegistry, clock: Clock, baseline: float = BASELINE
    ) -> None:
        """`baseline` is the rate that plays are compared with."""
        self._session = session
        self._registry = registry
        self._clock = clock
        self._baseline = baseline

    async def validate(self, workspace: str, text: str, where: str = "play") -> Play:
        """Return the play of a text. Raises ConfigurationError with a line for each fault."""
        async with self._session.acquire() as connection:
            return validate_play(
                text, where, known_names(await self._registry.get_snapshot(connection), workspace)
            )

    async def publish(
        self, workspace: str, text: str, author: str, where: str = "play"
    ) -> tuple[Play, int]:
        """Make a play's text its live version; return the play and the version's number. Raises ConfigurationError."""
        if workspace != DEFAULT_WORKSPACE:
            raise ConfigurationError(
                f"plays run in the workspace {DEFAULT_WORKSPACE} alone, for now"
            )
        async with self._session.acquire() as connection, unit_of_work(connection):
            play = validate_play(
                text, where, known_names(await self._registry.get_snapshot(connection), workspace)
            )
            row = await repository.get_for_update(connection, workspace, play.play)
            if row is not None and row.text == text:
                return play, row.number
            return play, await repository.insert_version(
                connection, workspace, play.play, text, author
            )

    async def install(
        self, plays: Mapping[str, str], definitions: Mapping[DefinitionKind, Mapping[str, str]]
    ) -> list[str]:
        """Publish what ships where nothing of the name is known; return the names of the plays. Raises ConfigurationError."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await repository.update_change_counter(
                connection, DEFAULT_WORKSPACE
            )  # one process at a time
            known = {
                (k, name)
                for w, k, name, _ in await repository.list_definitions(connection)
                if w == DEFAULT_WORKSPACE
            }
            for kind, texts in definitions.items():
                for name, text in texts.items():
                    if (kind, name) not in known:
                        await repository.upsert_definition(
                            connection, DEFAULT_WORKSPACE, kind, name, text, "what ships"
                        )
            there = {
                row.play
                for row in await repository.list_live_versions(connection)
                if row.workspace == DEFAULT_WORKSPACE
            }
            new = [name for name in plays if name not in there]
            for name in new:
                await repository.insert_version(
                    connection, DEFAULT_WORKSPACE, name, plays[name], "what ships"
                )
        return new

    async def list_plays(self, workspace: str) -> list[PlayView]:
        """Return a workspace's plays."""
        async with self._session.acquire() as connection:
            rows = [
                row
                for row in await repository.list_live_versions(connection)
                if row.workspace == workspace
            ]
        found = []
        for row in rows:
            raw = yaml.safe_load(row.text)
            trigger = _shown(*next(iter(raw["trigger"].items())))
            kind = raw.get("kind", "automated")
            found.append(
                PlayView(
                    row.play,
                    row.number,
                    row.status,
                    kind,
                    trigger,
                    row.author,
                    row.published_at.isoformat(),
                )
            )
        return found

    async def get_text(self, workspace: str, play: str, number: int | None = None) -> str:
        """Return a version's text, the live one's by default. Raises NotFound."""
        async with self._session.acquire() as connection:
            row = await _known(connection, workspace, play)
            found = (
                row.text
                if number is None
                else await repository.get_text(connection, workspace, play, number)
            )
        if found is None:
            raise NotFound(f"play {play} has no version {number}")
        return found

    async def list_versions(self, workspace: str, play: str) -> list[tuple[int, str, str]]:
        """Return (number, author, published at) of each version, the newest first. Raises NotFound."""
        async with self._session.acquire() as connection:
            await _known(connection, workspace, play)
            rows = await repository.list_versions(connection, workspace, play)
        return [(number, author, moment.isoformat()) for number, author, moment in rows]

    async def roll_back(self, workspace: str, play: str, number: int | None = None) -> int:
        """Make an earlier version live again, the one before by default; return its number.

        Raises NotFound, ConfigurationError if it names what is no longer there.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            row = await _known(connection, workspace, play)
            to = row.number - 1 if number is None else number
            text = await repository.get_text(connection, workspace, play, to)
            if text is None:
                raise NotFound(f"play {play} has no version {to}")
            validate_play(
                text,
                f"version {to}",
                known_names(await self._registry.get_snapshot(connection), workspace),
            )
            await repository.update_live_version(connection, workspace, play, to)
        return to

    async def set_paused(self, workspace: str, play: str, *, on: bool) -> None:
        """Let a play stand still, with everybody in it, or go on. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await _known(connection, workspace, play)
            await repository.update_status(connection, workspace, play, "paused" if on else "live")
            await enrollments.update_paused(connection, workspace, play, on=on)
            if not on:
                await actions.update_waiting_due(connection, workspace, ["play_paused"], play)

    async def set_channel_stopped(
        self, workspace: str, channel: str, author: str, *, on: bool
    ) -> None:
        """Stop a channel (`*`: all), or let it go on: what was held goes out then."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await repository.update_channel_switch(connection, workspace, channel, author, stop=on)
            if not on:
                await actions.update_waiting_due(connection, workspace, ["kill_switch"])

    async def define(
        self, workspace: str, kind: DefinitionKind, text: str, author: str, where: str
    ) -> str:
        """Store a content, a segment or a destination; return its name. Raises ConfigurationError."""
        found = parse_document(_MODELS[kind], text, where)
        name: str = getattr(found, kind)
        async with self._session.acquire() as connection, unit_of_work(connection):
            if isinstance(found, Segment):
                snapshot = await self._registry.get_snapshot(connection)
                others = {**snapshot.segments.get(workspace, {}), name: found.when}
                faults = [
                    format_fault(text, where, place, reason)
                    for place, reason in reference_faults(
                        found.when, others, snapshot.vocabulary, ("when",)
                    )
                ]
                if faults:
                    raise ConfigurationError("\n".join(faults))
            await repository.upsert_definition(connection, workspace, kind, name, text, author)
            if kind == "destination":
                await actions.update_waiting_due(
                    connection, workspace, [f"no destination {name!r} is defined"]
                )
        return name

    async def delete_definition(self, workspace: str, kind: DefinitionKind, name: str) -> None:
        """Remove a definition that no live play names. Raises NotFound, Conflict."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            users = await self._users(connection, workspace, kind, name)
            if users:
                raise Conflict(f"{kind} {name} is named by {', '.join(users)}")
            if not await repository.delete_definition(connection, workspace, kind, name):
                raise NotFound(f"workspace {workspace} has no {kind} {name!r}")
            if kind == "segment":
                await segment_members.delete_segment(connection, workspace, name)

    async def _users(
        self, connection: Connection, workspace: str, kind: DefinitionKind, name: str
    ) -> list[str]:
        """Return who names a definition: plays that are live or paused, versions that somebody is in, other segments."""
        users = set()
        for play, number, text in await repository.list_versions_in_use(connection, workspace):
            try:
                found = referenced_definitions(parse_document(Play, text, play))
            except ConfigurationError:
                continue  # this release cannot run it anyway
            if name in found[kind]:
                users.add(f"{play} (version {number})")
        for place, other, called, text in await repository.list_definitions(connection):
            if (place, other, kind) == (workspace, "segment", "segment"):
                segment = parse_document(Segment, text, called)
                if name in referenced_segments(segment.when):
                    users.add(f"segment {called}")
        return sorted(users)

    async def list_definitions(self, workspace: str) -> list[dict[str, str]]:
        """Return what is defined; a destination's secret is not told."""
        async with self._session.acquire() as connection:
            rows = await repository.list_definitions(connection)
        return [
            {
                "kind": kind,
                "name": name,
                "text": _without_secret(text) if kind == "destination" else text,
            }
            for place, kind, name, text in rows
            if place == workspace
        ]

    async def list_stopped_channels(self, workspace: str) -> list[str]:
        """Return the channels that stand still."""
        async with self._session.acquire() as connection:
            found = await repository.list_stopped_channels(connection)
        return sorted(channel for place, channel in found if place == workspace)

    async def assess_maturity(self, workspace: str) -> Maturity:
        """Return how far a workspace has come, by what ran in the last 30 days."""
        since = self._clock.now() - 30 * DAY
        async with self._session.acquire() as connection:
            rows = [
                row
                for row in await repository.list_live_versions(connection)
                if row.workspace == workspace
            ]
            counts = await enrollments.count_recent(connection, workspace, since)
            granted = await consents.count_consents(connection, workspace)
        ran = []
        for row in rows:
            try:
                play = parse_document(Play, row.text, row.play)
            except ConfigurationError:
                continue  # this release cannot run it
            ran.append(PlayUsage(play, *counts.get(row.play, (0, 0, 0))))
        return assess_maturity(ran, granted, self._baseline)

    async def measure_impact(self, workspace: str, play: str) -> list[ConversionRate]:
        """Return how many reached the goal of those who were in a play, and of those held out. Raises NotFound."""
        async with self._session.acquire() as connection:
            await _known(connection, workspace, play)
            rows = await enrollments.count_by_status(connection, workspace, play)
        groups: dict[str, tuple[int, int]] = {}
        for number, status, entered, reached, _ in rows:
            group = "held out" if status == "holdout" else f"version {number}"
            before = groups.get(group, (0, 0))
            groups[group] = (before[0] + entered, before[1] + reached)
        return [
            wilson_rate(group, entered, reached)
            for group, (entered, reached) in sorted(groups.items())
        ]


def _shown(kind: str, wanted: Any) -> str:
    """Return a trigger in a few words: `signal quote_requested`, `stage change to prospect`."""
    parts = (
        [f"{name} {value}" for name, value in wanted.items()]
        if isinstance(wanted, dict)
        else [str(wanted)]
    )
    return f"{kind.replace('_', ' ')} {', '.join(parts)}"


def known_names(snapshot: PlaySnapshot, workspace: str) -> KnownNames:
    """Return what a workspace's plays may name."""
    return KnownNames(
        snapshot.vocabulary,
        snapshot.segments.get(workspace, {}),
        {
            name: found.channel
            for (place, name), found in snapshot.destinations.items()
            if place == workspace
        },
        {item.content for item in snapshot.contents.get(workspace, ())},
    )


def referenced_definitions(play: Play) -> Mapping[DefinitionKind, set[str]]:
    """Return what a play names, by kind."""
    found: dict[DefinitionKind, set[str]] = {
        "content": set(),
        "segment": set(),
        "destination": set(),
    }
    for action in iter_actions(play.steps):
        if action.destination:
            found["destination"].add(action.destination)
        if action.content and action.content.fallback:
            found["content"].add(action.content.fallback)
    found["segment"] |= awaited_segments(play)
    for _, condition in iter_conditions(play):
        found["segment"] |= referenced_segments(condition)
    return found


def _without_secret(text: str) -> str:
    raw = yaml.safe_load(text)
    return str(
        yaml.safe_dump(
            {name: value for name, value in raw.items() if name != "secret"}, sort_keys=False
        )
    )


async def _known(connection: Connection, workspace: str, play: str) -> PlayRow:
    row = await repository.get_for_update(connection, workspace, play)
    if row is None:
        raise NotFound(f"workspace {workspace} has no play {play!r}")
    return row
