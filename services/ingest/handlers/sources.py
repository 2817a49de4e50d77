"""What an operator does with sources: make, change, give another key, take keys back."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import ConfigurationError, Conflict, NotFound
from services.ingest.adapters.registry import ADAPTERS
from services.ingest.domain.source import MAX_RATE, Source, parse_origin
from services.ingest.repository import sources as repository
from services.ingest.repository.sources import WriteKey

_NAME = 60


class SourceChanges(msgspec.Struct, frozen=True):
    """What is to change; None leaves it. `user_hash` of True demands the hash under a new secret, False demands none.

    No origins allow all, a `per_second` of 0 is no limit, an `adapter` or `signing_secret` of "" is none.
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
    """A source, its keys that hold, and what is said once: a new write key, a new userHash secret."""

    source: Source
    keys: list[WriteKey]
    write_key: str | None = None
    user_hash_secret: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return what may be shown: the userHash secret only when it is new, the signing secret never."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        found["source"]["user_hash"] = found["source"].pop("user_hash_secret") is not None
        found["source"]["signed"] = found["source"].pop("signing_secret") is not None
        return found


class SourceService:
    """Keeps the sources. Doors take changes over when they next look, within seconds."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list_sources(self, workspace: str) -> list[SourceView]:
        """Return a workspace's sources."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            found = await repository.list_sources(connection, workspace)
            return [
                SourceView(s, await repository.list_keys(connection, (s.workspace, s.name)))
                for s in found
            ]

    async def create(self, workspace: str, name: str, given: SourceChanges) -> SourceView:
        """Make a source with its first key. Raises Conflict when there is one of the name, ConfigurationError."""
        if not name or len(name) > _NAME or not name.isprintable() or "/" in name:
            raise ConfigurationError(
                f"{name!r:.80}: a source's name has 1 to {_NAME} characters, and no /"
            )
        async with self._session.acquire() as connection, unit_of_work(connection):
            if await repository.get_source_for_update(connection, (workspace, name)):
                raise Conflict(f"there is a source {name} already: 'perigee source set' changes it")
            changed, secret = _changed(Source(workspace, name), given)
            await repository.upsert_source(connection, changed)
            return await _told(
                connection, changed, write_key=await _new_key(connection, changed), secret=secret
            )

    async def update(self, workspace: str, name: str, given: SourceChanges) -> SourceView:
        """Change a source. Raises NotFound, ConfigurationError."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            changed, secret = _changed(await _one(connection, workspace, name), given)
            await repository.upsert_source(connection, changed)
            return await _told(connection, changed, secret=secret)

    async def rotate(self, workspace: str, name: str, overlap: float) -> SourceView:
        """Give a source a new key; the others hold for `overlap` more seconds. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            source = await _one(connection, workspace, name)
            key = await _new_key(connection, source)
            await repository.update_key_ends(
                connection, (source.workspace, source.name), overlap, but=key
            )
            return await _told(connection, source, write_key=key)

    async def revoke(self, workspace: str, name: str, hint: str) -> SourceView:
        """Take back the keys that begin with `hint`, or all when it is empty. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            source = await _one(connection, workspace, name)
            if not await repository.update_key_ends(
                connection, (source.workspace, source.name), 0, hint=hint
            ):
                raise NotFound(
                    f"source {name} has no key that begins with {hint!r} and still holds"
                )
            return await _told(connection, source)


async def _one(connection: Connection, workspace: str, name: str) -> Source:
    found = await repository.get_source_for_update(connection, (workspace, name))
    if found is None:
        there = (
            ", ".join(
                source.name for source in await repository.list_sources(connection, workspace)
            )
            or "none"
        )
        raise NotFound(f"no source {name!r}; there are {there}")
    return found


async def _new_key(connection: Connection, source: Source) -> str:
    key = secrets.token_urlsafe(24)
    await repository.insert_key(connection, (source.workspace, source.name), key)
    return key


async def _told(
    connection: Connection,
    source: Source,
    *,
    write_key: str | None = None,
    secret: str | None = None,
) -> SourceView:
    return SourceView(
        source,
        await repository.list_keys(connection, (source.workspace, source.name)),
        write_key,
        secret,
    )


def _changed(source: Source, given: SourceChanges) -> tuple[Source, str | None]:
    """Return the source as it becomes, and the userHash secret if it is a new one."""
    wanted: dict[str, Any] = {"trust": given.trust, "mode": given.mode, "defaults": given.defaults}
    changes = {field: value for field, value in wanted.items() if value is not None}
    secret = secrets.token_urlsafe(24) if given.user_hash else None
    if given.user_hash is not None:
        changes["user_hash_secret"] = secret
    if given.origins is not None:
        changes["allowed_origins"] = tuple(parse_origin(one) for one in given.origins)
    if given.per_second is not None:
        if not 0 <= given.per_second <= MAX_RATE:
            raise ConfigurationError(
                f"{given.per_second} messages a second: 0 (no limit) to {MAX_RATE}"
            )
        changes["per_second"] = given.per_second or None
    changes |= {"adapter": given.adapter or None} if given.adapter is not None else {}
    changes |= (
        {"signing_secret": given.signing_secret or None} if given.signing_secret is not None else {}
    )
    changes |= (
        {"adapter_settings": given.adapter_settings} if given.adapter_settings is not None else {}
    )
    try:
        changed = msgspec.convert({**msgspec.structs.asdict(source), **changes}, Source)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"source {source.name}: {error}") from None
    _check_adapter(changed)
    return changed, secret


def _check_adapter(source: Source) -> None:
    """Raise ConfigurationError for an adapter that does not exist, or that lacks what it needs."""
    if source.adapter is None:
        return
    adapter = ADAPTERS.get(source.adapter)
    if adapter is None:
        raise ConfigurationError(f"no adapter {source.adapter!r}: there are {', '.join(ADAPTERS)}")
    if source.trust != "server":
        raise ConfigurationError(
            f"an adapter speaks for people: source {source.name} needs trust server"
        )
    if adapter.verify_signature is not None and source.signing_secret is None:
        raise ConfigurationError(
            f"{source.adapter} signs what it sends: source {source.name} needs its signing secret"
        )
    if adapter.validate_settings is not None:
        adapter.validate_settings(source.adapter_settings)
