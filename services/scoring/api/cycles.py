"""`/admin/v1/cycles`: versions of cycles."""

from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import Field

from libs.common.http.authentication import require_scope
from services.scoring.api.identities import OperatorCommand
from services.scoring.handlers.cycle_versions import CycleVersionService


class CycleDocument(OperatorCommand):
    """A cycle's specification as YAML."""

    text: str = Field(max_length=1_000_000)


class CyclePublication(CycleDocument):
    """A specification to go live; its net changes go out at `per_second` contacts a second."""

    per_second: int = Field(500, ge=1, le=100_000)


def router(versions: CycleVersionService) -> APIRouter:
    """Return the routes of cycles."""
    routes = APIRouter(prefix="/cycles", tags=["cycles"], dependencies=[require_scope("cycles")])

    @routes.get("")
    async def cycles() -> list[dict[str, Any]]:
        """Return every version with its status and how far its change has come."""
        found: list[dict[str, Any]] = msgspec.to_builtins(await versions.list_versions())
        return found

    @routes.get("/{cycle}")
    async def spec(cycle: str, version: str | None = None) -> dict[str, str]:
        """Return the text of a version, of the live one by default."""
        return {"text": await versions.get_text(cycle, version)}

    @routes.post("/draft")
    async def draft(written: CycleDocument) -> dict[str, str]:
        """Keep a draft."""
        return {"fold": await versions.save_draft(written.text, written.author)}

    @routes.post("/publish")
    async def publish(written: CyclePublication) -> dict[str, str]:
        """Fill a version beside the live one, then let it take its place."""
        return {"fold": await versions.publish(written.text, written.author, written.per_second)}

    @routes.post("/{cycle}/rollback")
    async def rollback(cycle: str, body: OperatorCommand) -> dict[str, str]:
        """Give up a version that is being filled, else publish the one that was live before."""
        return {"fold": await versions.rollback(cycle, body.author)}

    return routes
