"""`/admin/v1/sources` and `/admin/v1/tracker`: sources, write keys and the tracker's snippet.

Scope `sources`; a write key is no authentication here.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from libs.common.api_keys import Caller
from libs.common.durations import Overlap
from libs.common.http.authentication import require_scope
from libs.common.instants import DAY
from services.ingest.domain.source import MAX_RATE
from services.ingest.handlers.sources import SourceChanges, SourceService
from services.ingest.tracker.script import content_security_policy, html_snippet

SourceName = Annotated[str, Field(min_length=1, max_length=60)]
TrackerUrl = Annotated[
    str, Query(pattern=r"^https?://[^\s\"'<>]{1,300}$", description="ingest's address for browsers")
]
SourceManager = Annotated[Caller, require_scope("sources")]


class SourceUpdate(BaseModel):
    """Changes of a source; omitted fields stay."""

    model_config = ConfigDict(extra="forbid")

    trust: Literal["public", "server"] | None = None
    mode: Literal["live", "historical", "test"] | None = None
    user_hash: bool | None = Field(
        None, description="true: require userHash under a new secret; false: do not"
    )
    allowed_origins: list[str] | None = Field(
        None, max_length=100, description="origins of pages that may send; empty: any"
    )
    per_second: int | None = Field(
        None, ge=0, le=MAX_RATE, description="messages a second; 0: no limit"
    )
    defaults: dict[str, Any] | None = Field(
        None, description="properties of messages that do not have them"
    )
    adapter: str | None = Field(
        None, max_length=60, description="format of webhooks at /v1/hook; empty: none"
    )
    signing_secret: str | None = Field(
        None,
        max_length=2000,
        description="secret, or key, that the adapter's sender signs with; empty: none",
    )
    adapter_settings: dict[str, Any] | None = Field(
        None, description="settings of the adapter: a mapping, an integration's id"
    )

    def to_changes(self) -> SourceChanges:
        """Return the changes as the service takes them."""
        fields = self.model_dump(exclude={"name"})
        return SourceChanges(origins=fields.pop("allowed_origins"), **fields)


class SourceCreate(SourceUpdate):
    """A source to create."""

    name: SourceName


class KeyRotation(BaseModel):
    """How long the old keys stay valid."""

    model_config = ConfigDict(extra="forbid")

    overlap: Overlap = DAY


def router(source_service: SourceService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/sources", tags=["sources"])

    @routes.get("")
    async def list_sources(caller: SourceManager) -> list[dict[str, Any]]:
        """Return the sources; a key is shown by its first characters only."""
        views = await source_service.list_sources(caller.workspace)
        return [view.to_document() for view in views]

    @routes.post("", status_code=201)
    async def create(caller: SourceManager, source: SourceCreate) -> dict[str, Any]:
        """Create a source. `write_key` is in this answer and nowhere else."""
        view = await source_service.create(caller.workspace, source.name, source.to_changes())
        return view.to_document()

    @routes.patch("/{name}")
    async def change(
        caller: SourceManager, name: SourceName, changes: SourceUpdate
    ) -> dict[str, Any]:
        """Change a source."""
        view = await source_service.update(caller.workspace, name, changes.to_changes())
        return view.to_document()

    @routes.post("/{name}/keys", status_code=201)
    async def rotate(
        caller: SourceManager, name: SourceName, rotation: KeyRotation
    ) -> dict[str, Any]:
        """Give a source a new key; the old keys stay valid for `overlap`."""
        overlap = rotation.overlap / 1_000_000
        return (await source_service.rotate(caller.workspace, name, overlap)).to_document()

    @routes.delete("/{name}/keys")
    async def revoke(caller: SourceManager, name: SourceName, hint: str = "") -> dict[str, Any]:
        """Revoke at once the keys that begin with `hint`, or all."""
        return (await source_service.revoke(caller.workspace, name, hint)).to_document()

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
