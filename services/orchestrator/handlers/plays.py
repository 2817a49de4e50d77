"""Application service for plays: validate, publish, roll back, pause; and the kill switches."""

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import ConfigurationError, NotFound
from libs.common.ids import WorkspaceId
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.play_validation import validate_play
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import (
    actions,
    changes,
    channel_switches,
    definitions,
    enrollments,
)
from services.orchestrator.repository import plays as repository
from services.orchestrator.repository.definitions import DefinitionKind
from services.orchestrator.repository.plays import PlayRow

_SHIPPED = "what ships"
"""Author of shipped plays and definitions."""


class PlayView(msgspec.Struct, frozen=True):
    """A play as the admin API returns it; `published_at` is RFC 3339."""

    play: str
    number: int
    status: str
    kind: str
    trigger: str
    author: str
    published_at: str


class PlayService:
    """Use cases of marketers with the plays of a workspace."""

    def __init__(self, session: Session, registry: PlayRegistry) -> None:
        self._session = session
        self._registry = registry

    async def validate(self, workspace: WorkspaceId, text: str, where: str = "play") -> Play:
        """Return the play of a text. Raises ConfigurationError with a line for each fault."""
        async with self._session.acquire() as connection:
            return await self._validate(connection, workspace, text, where)

    async def publish(
        self, workspace: WorkspaceId, text: str, author: str, where: str = "play"
    ) -> tuple[Play, int]:
        """Make a text the play's live version; return the play with the version's number.

        A text equal to the live version's adds none. Raises ConfigurationError.
        """
        if workspace != DEFAULT_WORKSPACE:
            raise ConfigurationError(
                f"plays run in the workspace {DEFAULT_WORKSPACE} alone, for now"
            )
        async with self._session.acquire() as connection, unit_of_work(connection):
            play = await self._validate(connection, workspace, text, where)
            row = await repository.get_for_update(connection, workspace, play.play)
            if row is not None and row.text == text:
                return play, row.number
            number = await repository.insert_version(connection, workspace, play.play, text, author)
            return play, number

    async def install(
        self,
        shipped_plays: Mapping[str, str],
        shipped_definitions: Mapping[DefinitionKind, Mapping[str, str]],
    ) -> list[str]:
        """Insert the shipped plays and definitions that do not exist; return the new plays.

        Raises ConfigurationError.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            # The counter's row lock lets one process at a time install.
            await changes.update_change_counter(connection, DEFAULT_WORKSPACE)
            existing_definitions = {
                (kind, name)
                for workspace, kind, name, _ in await definitions.list_definitions(connection)
                if workspace == DEFAULT_WORKSPACE
            }
            for kind, texts in shipped_definitions.items():
                for name, text in texts.items():
                    if (kind, name) not in existing_definitions:
                        await definitions.upsert_definition(
                            connection, DEFAULT_WORKSPACE, kind, name, text, _SHIPPED
                        )
            existing_plays = {row.play for row in await _list_live(connection, DEFAULT_WORKSPACE)}
            new_plays = [name for name in shipped_plays if name not in existing_plays]
            for name in new_plays:
                await repository.insert_version(
                    connection, DEFAULT_WORKSPACE, name, shipped_plays[name], _SHIPPED
                )
        return new_plays

    async def list_plays(self, workspace: WorkspaceId) -> list[PlayView]:
        """Return a workspace's plays."""
        async with self._session.acquire() as connection:
            return [_to_view(row) for row in await _list_live(connection, workspace)]

    async def get_text(self, workspace: WorkspaceId, play: str, number: int | None = None) -> str:
        """Return a version's text, by default the live version's. Raises NotFound."""
        async with self._session.acquire() as connection:
            row = await _lock_play(connection, workspace, play)
            text = (
                row.text
                if number is None
                else await repository.get_text(connection, workspace, play, number)
            )
        if text is None:
            raise NotFound(f"play {play} has no version {number}")
        return text

    async def list_versions(self, workspace: WorkspaceId, play: str) -> list[tuple[int, str, str]]:
        """Return (number, author, published at) of each version, newest first. Raises NotFound."""
        async with self._session.acquire() as connection:
            await _lock_play(connection, workspace, play)
            rows = await repository.list_versions(connection, workspace, play)
        return [(number, author, published_at.isoformat()) for number, author, published_at in rows]

    async def roll_back(self, workspace: WorkspaceId, play: str, number: int | None = None) -> int:
        """Make an earlier version live, by default the previous one; return its number.

        Raises NotFound, ConfigurationError if the version refers to definitions that are deleted.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            row = await _lock_play(connection, workspace, play)
            target = row.number - 1 if number is None else number
            text = await repository.get_text(connection, workspace, play, target)
            if text is None:
                raise NotFound(f"play {play} has no version {target}")
            await self._validate(connection, workspace, text, f"version {target}")
            await repository.update_live_version(connection, workspace, play, target)
        return target

    async def set_paused(self, workspace: WorkspaceId, play: str, *, on: bool) -> None:
        """Pause a play with all its enrollments, or resume it. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await _lock_play(connection, workspace, play)
            await repository.update_status(connection, workspace, play, "paused" if on else "live")
            await enrollments.update_paused(connection, workspace, play, on=on)
            if not on:
                await actions.update_waiting_due(connection, workspace, ["play_paused"], play)

    async def set_channel_stopped(
        self, workspace: WorkspaceId, channel: str, author: str, *, on: bool
    ) -> None:
        """Stop a channel (`*` for all), or start it again: its held actions become due then."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            await channel_switches.update_channel_switch(
                connection, workspace, channel, author, stop=on
            )
            if not on:
                await actions.update_waiting_due(connection, workspace, ["kill_switch"])

    async def list_stopped_channels(self, workspace: WorkspaceId) -> list[str]:
        """Return the stopped channels in order of name."""
        async with self._session.acquire() as connection:
            stopped = await channel_switches.list_stopped_channels(connection)
        return sorted(channel for owner, channel in stopped if owner == workspace)

    async def _validate(
        self, connection: Connection, workspace: WorkspaceId, text: str, where: str
    ) -> Play:
        snapshot = await self._registry.get_snapshot(connection)
        return validate_play(text, where, snapshot.known_names(workspace))


def _to_view(row: PlayRow) -> PlayView:
    fields = yaml.safe_load(row.text)
    return PlayView(
        row.play,
        row.number,
        row.status,
        fields.get("kind", "automated"),
        _trigger_summary(*next(iter(fields["trigger"].items()))),
        row.author,
        row.published_at.isoformat(),
    )


def _trigger_summary(kind: str, spec: Any) -> str:
    """Return a trigger in a few words: `signal quote_requested`, `stage change to prospect`."""
    parts = (
        [f"{name} {value}" for name, value in spec.items()]
        if isinstance(spec, dict)
        else [str(spec)]
    )
    return f"{kind.replace('_', ' ')} {', '.join(parts)}"


async def _list_live(connection: Connection, workspace: WorkspaceId) -> list[PlayRow]:
    rows = await repository.list_live_versions(connection)
    return [row for row in rows if row.workspace == workspace]


async def _lock_play(connection: Connection, workspace: WorkspaceId, play: str) -> PlayRow:
    """Lock and return a play. Raises NotFound."""
    row = await repository.get_for_update(connection, workspace, play)
    if row is None:
        raise NotFound(f"workspace {workspace} has no play {play!r}")
    return row
