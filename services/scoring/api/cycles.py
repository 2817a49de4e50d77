"""`/admin/v1/cycles`: versions of cycles."""

from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import Field

from libs.common.http.authentication import require_scope
from services.scoring.api.admin import Said
from services.scoring.handlers.versions import Versions


class Written(Said):
    """A cycle's specification as YAML."""

    text: str = Field(max_length=1_000_000)


class Published(Written):
    """A specification to go live; its net changes go out at `per_second` contacts a second."""

    per_second: int = Field(500, ge=1, le=100_000)


def router(versions: Versions) -> APIRouter:
    """Return the routes of cycles."""
    routes = APIRouter(prefix="/cycles", tags=["cycles"], dependencies=[require_scope("cycles")])

    @routes.get("")
    async def cycles() -> list[dict[str, Any]]:
        """Return every version with its status and how far its change has come."""
        found: list[dict[str, Any]] = msgspec.to_builtins(await versions.status())
        return found

    @routes.get("/{cycle}")
    async def spec(cycle: str, version: str | None = None) -> dict[str, str]:
        """Return the text of a version, of the live one by default."""
        return {"text": await versions.spec(cycle, version)}

    @routes.post("/draft")
    async def draft(written: Written) -> dict[str, str]:
        """Keep a draft."""
        return {"fold": await versions.save(written.text, written.author)}

    @routes.post("/publish")
    async def publish(written: Published) -> dict[str, str]:
        """Fill a version beside the live one, then let it take its place."""
        return {"fold": await versions.publish(written.text, written.author, written.per_second)}

    @routes.post("/{cycle}/rollback")
    async def rollback(cycle: str, body: Said) -> dict[str, str]:
        """Give up a version that is being filled, else publish the one that was live before."""
        return {"fold": await versions.rollback(cycle, body.author)}

    return routes
