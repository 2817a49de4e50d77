"""Application service for definitions: contents, segments and destinations."""

from collections.abc import Mapping

import yaml

from libs.common.conditions import referenced_segments
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.documents import format_fault, parse_document
from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.ids import WorkspaceId
from services.orchestrator.domain.condition_references import reference_faults
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.play_program import iter_actions, iter_conditions
from services.orchestrator.domain.segment import Segment, awaited_segments
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import actions, plays, segment_members
from services.orchestrator.repository import definitions as repository
from services.orchestrator.repository.definitions import DefinitionKind

_MODELS: Mapping[DefinitionKind, type[ContentItem] | type[Segment] | type[Destination]] = {
    "content": ContentItem,
    "segment": Segment,
    "destination": Destination,
}


class DefinitionService:
    """Use cases of marketers with the definitions of a workspace."""

    def __init__(self, session: Session, registry: PlayRegistry) -> None:
        self._session = session
        self._registry = registry

    async def define(
        self, workspace: WorkspaceId, kind: DefinitionKind, text: str, author: str, where: str
    ) -> str:
        """Store a definition and return its name. Raises ConfigurationError.

        Actions that are held because the destination is missing become due.
        """
        definition = parse_document(_MODELS[kind], text, where)
        name: str = getattr(definition, kind)
        async with self._session.acquire() as connection, unit_of_work(connection):
            if isinstance(definition, Segment):
                await self._check_references(connection, workspace, definition, text, where)
            await repository.upsert_definition(connection, workspace, kind, name, text, author)
            if kind == "destination":
                await actions.update_waiting_due(
                    connection, workspace, [f"no destination {name!r} is defined"]
                )
        return name

    async def delete(self, workspace: WorkspaceId, kind: DefinitionKind, name: str) -> None:
        """Delete a definition that nothing refers to. Raises NotFound, Conflict."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            users = await _list_users(connection, workspace, kind, name)
            if users:
                raise Conflict(f"{kind} {name} is named by {', '.join(users)}")
            if not await repository.delete_definition(connection, workspace, kind, name):
                raise NotFound(f"workspace {workspace} has no {kind} {name!r}")
            if kind == "segment":
                await segment_members.delete_segment(connection, workspace, name)

    async def list_definitions(self, workspace: WorkspaceId) -> list[dict[str, str]]:
        """Return the definitions, without the secrets of destinations."""
        async with self._session.acquire() as connection:
            rows = await repository.list_definitions(connection)
        return [
            {
                "kind": kind,
                "name": name,
                "text": _without_secret(text) if kind == "destination" else text,
            }
            for owner, kind, name, text in rows
            if owner == workspace
        ]

    async def _check_references(
        self,
        connection: Connection,
        workspace: WorkspaceId,
        segment: Segment,
        text: str,
        where: str,
    ) -> None:
        snapshot = await self._registry.get_snapshot(connection)
        conditions = {**snapshot.segments.get(workspace, {}), segment.segment: segment.when}
        faults = [
            format_fault(text, where, place, reason)
            for place, reason in reference_faults(
                segment.when, conditions, snapshot.vocabulary, ("when",)
            )
        ]
        if faults:
            raise ConfigurationError("\n".join(faults))


async def _list_users(
    connection: Connection, workspace: WorkspaceId, kind: DefinitionKind, name: str
) -> list[str]:
    """Return the play versions in use and the segments that refer to a definition, sorted."""
    users = set()
    for play, number, text in await plays.list_versions_in_use(connection, workspace):
        try:
            references = _references_of(parse_document(Play, text, play))
        except ConfigurationError:
            continue  # this release cannot run the version
        if name in references[kind]:
            users.add(f"{play} (version {number})")
    for owner, other_kind, other_name, text in await repository.list_definitions(connection):
        if (owner, other_kind, kind) == (workspace, "segment", "segment"):
            segment = parse_document(Segment, text, other_name)
            if name in referenced_segments(segment.when):
                users.add(f"segment {other_name}")
    return sorted(users)


def _references_of(play: Play) -> Mapping[DefinitionKind, set[str]]:
    """Return the names of the definitions that a play refers to, by kind."""
    references: dict[DefinitionKind, set[str]] = {
        "content": set(),
        "segment": set(awaited_segments(play)),
        "destination": set(),
    }
    for action in iter_actions(play.steps):
        if action.destination:
            references["destination"].add(action.destination)
        if action.content and action.content.fallback:
            references["content"].add(action.content.fallback)
    for _, condition in iter_conditions(play):
        references["segment"] |= referenced_segments(condition)
    return references


def _without_secret(text: str) -> str:
    fields = yaml.safe_load(text)
    return str(
        yaml.safe_dump(
            {name: value for name, value in fields.items() if name != "secret"}, sort_keys=False
        )
    )
