"""Use cases of sources: create, update, rotate and revoke write keys."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.ids import WorkspaceId
from services.ingest.adapters.registry import ADAPTERS
from services.ingest.domain.source import MAX_RATE, Source, SourceKey, parse_origin
from services.ingest.repository import sources as repository
from services.ingest.repository.sources import WriteKey

_MAX_NAME_CHARACTERS = 60


class SourceChanges(msgspec.Struct, frozen=True):
    """Changes of a source; None leaves a field.

    `user_hash` True requires the hash under a new secret, False requires none. Empty `origins`
    allow all, a `per_second` of 0 is no limit, an empty `adapter` or `signing_secret` removes it.
    """

    trust: Any = None
    mode: Any = None
    user_hash: bool | None = None
    origins: Sequence[str] | None = None
    per_second: int | None = None
    defaults: dict[str, Any] | None = None
    adapter: str | None = None
    signing_secret: str | None = None
    adapter_settings: dict[str, Any] | None = None


class SourceView(msgspec.Struct, frozen=True):
    """A source and its valid keys; a new write key or userHash secret is shown once."""

    source: Source
    keys: list[WriteKey]
    write_key: str | None = None
    user_hash_secret: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the view without secrets, but for a new write key or userHash secret."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        source = document["source"]
        source["user_hash"] = source.pop("user_hash_secret") is not None
        source["signed"] = source.pop("signing_secret") is not None
        return document


class SourceService:
    """Changes sources; ingest processes apply a change at their next refresh, within seconds."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list_sources(self, workspace: WorkspaceId) -> list[SourceView]:
        """Return a workspace's sources."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            sources = await repository.list_sources(connection, workspace)
            return [await _view(connection, source) for source in sources]

    async def create(self, workspace: WorkspaceId, name: str, changes: SourceChanges) -> SourceView:
        """Create a source with its first key.

        Raises Conflict when the name is taken, ConfigurationError.
        """
        if not name or len(name) > _MAX_NAME_CHARACTERS or not name.isprintable() or "/" in name:
            raise ConfigurationError(
                f"{name!r:.80}: a source's name has 1 to {_MAX_NAME_CHARACTERS} characters, no /"
            )
        async with self._session.acquire() as connection, unit_of_work(connection):
            if await repository.get_source_for_update(connection, SourceKey(workspace, name)):
                raise Conflict(f"there is a source {name} already: 'perigee source set' changes it")
            source, secret = _apply_changes(Source(workspace, name), changes)
            await repository.upsert_source(connection, source)
            key = await _insert_new_key(connection, source)
            return await _view(connection, source, write_key=key, secret=secret)

    async def update(self, workspace: WorkspaceId, name: str, changes: SourceChanges) -> SourceView:
        """Change a source. Raises NotFound, ConfigurationError."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            source = await _get_source(connection, workspace, name)
            changed, secret = _apply_changes(source, changes)
            await repository.upsert_source(connection, changed)
            return await _view(connection, changed, secret=secret)

    async def rotate(self, workspace: WorkspaceId, name: str, overlap: float) -> SourceView:
        """Add a key; the old keys stay valid for `overlap` seconds. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            source = await _get_source(connection, workspace, name)
            key = await _insert_new_key(connection, source)
            await repository.update_key_ends(
                connection, SourceKey(source.workspace, source.name), overlap, keep=key
            )
            return await _view(connection, source, write_key=key)

    async def revoke(self, workspace: WorkspaceId, name: str, hint: str) -> SourceView:
        """Revoke the keys that begin with `hint`, or all when it is empty. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            source = await _get_source(connection, workspace, name)
            if not await repository.update_key_ends(
                connection, SourceKey(source.workspace, source.name), 0, hint=hint
            ):
                raise NotFound(f"source {name} has no valid key that begins with {hint!r}")
            return await _view(connection, source)


async def _get_source(connection: Connection, workspace: WorkspaceId, name: str) -> Source:
    source = await repository.get_source_for_update(connection, SourceKey(workspace, name))
    if source is None:
        sources = await repository.list_sources(connection, workspace)
        names = ", ".join(source.name for source in sources) or "none"
        raise NotFound(f"no source {name!r}; there are {names}")
    return source


async def _insert_new_key(connection: Connection, source: Source) -> str:
    key = secrets.token_urlsafe(24)
    await repository.insert_key(connection, SourceKey(source.workspace, source.name), key)
    return key


async def _view(
    connection: Connection,
    source: Source,
    *,
    write_key: str | None = None,
    secret: str | None = None,
) -> SourceView:
    return SourceView(
        source,
        await repository.list_keys(connection, SourceKey(source.workspace, source.name)),
        write_key,
        secret,
    )


def _apply_changes(source: Source, changes: SourceChanges) -> tuple[Source, str | None]:
    """Return the changed source, and the userHash secret if it is new.

    Raises ConfigurationError.
    """
    plain_fields: dict[str, Any] = {
        "trust": changes.trust,
        "mode": changes.mode,
        "defaults": changes.defaults,
        "adapter_settings": changes.adapter_settings,
    }
    fields = {field: value for field, value in plain_fields.items() if value is not None}
    secret = secrets.token_urlsafe(24) if changes.user_hash else None
    if changes.user_hash is not None:
        fields["user_hash_secret"] = secret
    if changes.origins is not None:
        fields["allowed_origins"] = tuple(parse_origin(origin) for origin in changes.origins)
    if changes.per_second is not None:
        if not 0 <= changes.per_second <= MAX_RATE:
            raise ConfigurationError(
                f"{changes.per_second} messages a second: 0 (no limit) to {MAX_RATE}"
            )
        fields["per_second"] = changes.per_second or None
    if changes.adapter is not None:
        fields["adapter"] = changes.adapter or None
    if changes.signing_secret is not None:
        fields["signing_secret"] = changes.signing_secret or None
    try:
        changed = msgspec.convert({**msgspec.structs.asdict(source), **fields}, Source)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"source {source.name}: {error}") from None
    _check_adapter(changed)
    return changed, secret


def _check_adapter(source: Source) -> None:
    """Raise ConfigurationError for an unknown adapter, or one with missing or invalid settings."""
    if source.adapter is None:
        return
    adapter = ADAPTERS.get(source.adapter)
    if adapter is None:
        raise ConfigurationError(f"no adapter {source.adapter!r}: there are {', '.join(ADAPTERS)}")
    if source.trust != "server":
        raise ConfigurationError(
            f"an adapter identifies contacts: source {source.name} needs trust server"
        )
    if adapter.verify_signature is not None and source.signing_secret is None:
        raise ConfigurationError(
            f"{source.adapter} signs its webhooks: source {source.name} needs its signing secret"
        )
    if adapter.validate_settings is not None:
        adapter.validate_settings(source.adapter_settings)
