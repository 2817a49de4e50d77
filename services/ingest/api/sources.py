"""`/admin/v1`: the sources and their write keys; a write key never opens it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from libs.common.api_keys import Caller
from libs.common.durations import Overlap
from libs.common.http.authentication import require_scope
from libs.common.instants import DAY
from services.ingest.domain.source import MAX_RATE
from services.ingest.handlers.sources import SourceChanges, SourceService, SourceView
from services.ingest.tracker.script import content_security_policy, html_snippet

SourceName = Annotated[str, Field(min_length=1, max_length=60)]
TrackerUrl = Annotated[
    str, Query(pattern=r"^https?://[^\s\"'<>]{1,300}$", description="ingest's address for browsers")
]
SourceManager = Annotated[Caller, require_scope("sources")]


class SourceUpdate(BaseModel):
    """What is to change of a source; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    trust: Literal["public", "server"] | None = None
    mode: Literal["live", "historical", "test"] | None = None
    user_hash: bool | None = Field(
        None, description="true: demand userHash under a new secret; false: do not"
    )
    allowed_origins: list[str] | None = Field(
        None, max_length=100, description="none: pages of any origin may send"
    )
    per_second: int | None = Field(
        None, ge=0, le=MAX_RATE, description="messages a second; 0: no limit"
    )
    defaults: dict[str, Any] | None = Field(
        None, description="properties of messages that do not have them"
    )

    adapter: str | None = Field(
        None, max_length=60, description="whose shape it takes at /v1/hook; empty: none"
    )
    signing_secret: str | None = Field(
        None, max_length=2000, description="how the adapter's sender signs; empty: none"
    )
    adapter_settings: dict[str, Any] | None = Field(
        None, description="the adapter's: a mapping, an integration's id"
    )

    def to_changes(self) -> SourceChanges:
        """Return it as the desk takes it."""
        said = self.model_dump(exclude={"name"})
        return SourceChanges(origins=said.pop("allowed_origins"), **said)


class SourceCreate(SourceUpdate):
    """A source to make."""

    name: SourceName


class KeyRotation(BaseModel):
    """How long the old keys still hold."""

    model_config = ConfigDict(extra="forbid")

    overlap: Overlap = DAY


def router(desk: SourceService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/sources", tags=["sources"])

    @routes.get("")
    async def every(caller: SourceManager) -> list[dict[str, Any]]:
        """Return the sources; of a key its first characters alone."""
        return [_shown(told) for told in await desk.list_sources(caller.workspace)]

    @routes.post("", status_code=201)
    async def create(caller: SourceManager, source: SourceCreate) -> dict[str, Any]:
        """Make a source. `write_key` is in this answer and nowhere else."""
        return _shown(await desk.create(caller.workspace, source.name, source.to_changes()))

    @routes.patch("/{name}")
    async def change(
        caller: SourceManager, name: SourceName, changes: SourceUpdate
    ) -> dict[str, Any]:
        """Change a source."""
        return _shown(await desk.update(caller.workspace, name, changes.to_changes()))

    @routes.post("/{name}/keys", status_code=201)
    async def rotate(
        caller: SourceManager, name: SourceName, rotation: KeyRotation
    ) -> dict[str, Any]:
        """Give a source a new key; the old ones hold for `overlap` longer."""
        return _shown(await desk.rotate(caller.workspace, name, rotation.overlap / 1_000_000))

    @routes.delete("/{name}/keys")
    async def revoke(caller: SourceManager, name: SourceName, hint: str = "") -> dict[str, Any]:
        """Take back at once the keys that begin with `hint`, or all."""
        return _shown(await desk.revoke(caller.workspace, name, hint))

    return routes


def tracker_router() -> APIRouter:
    """Return the route of the tracker's snippet."""
    routes = APIRouter(prefix="/tracker", tags=["sources"], dependencies=[require_scope("sources")])

    @routes.get("")
    async def snippet(url: TrackerUrl) -> dict[str, str]:
        """Return the lines for a page's head that load the tracker from `url`, and their policy.

        `WRITE_KEY` in the lines stands for the source's key.
        """
        return {
            "html": html_snippet(url, "WRITE_KEY"),
            "content_security_policy": content_security_policy(url),
        }

    return routes


def _shown(told: SourceView) -> dict[str, Any]:
    return told.to_document()
