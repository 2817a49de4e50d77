"""`/admin/v1/cycles`: cycle versions."""

from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from libs.common.http.authentication import require_scope
from services.scoring.api.identities import OperatorCommand
from services.scoring.handlers.cycle_versions import CycleVersionService, validate_spec


class CycleText(BaseModel):
    """A specification as YAML, to look at; `where` is what faults call it."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=1_000_000)
    where: str = Field("the cycle", max_length=300)


class CycleComparison(CycleText):
    """A specification to compare with a version, the live one by default."""

    version: str | None = Field(None, max_length=100)


class CycleDocument(OperatorCommand):
    """A cycle's specification as YAML."""

    text: str = Field(max_length=1_000_000)


class CyclePublication(CycleDocument):
    """A specification to publish; its net changes are sent for `per_second` contacts a second."""

    per_second: int = Field(500, ge=1, le=100_000)


def router(versions: CycleVersionService) -> APIRouter:
    """Return the routes of cycles."""
    routes = APIRouter(prefix="/cycles", tags=["cycles"], dependencies=[require_scope("cycles")])

    @routes.get("")
    async def cycles() -> list[dict[str, Any]]:
        """Return every version with its status and the progress of its rollout."""
        documents: list[dict[str, Any]] = msgspec.to_builtins(await versions.list_versions())
        return documents

    @routes.get("/{cycle}")
    async def spec(cycle: str, version: str | None = None) -> dict[str, str]:
        """Return the YAML text of a version, of the live one by default."""
        return {"text": await versions.get_text(cycle, version)}

    @routes.post("/validate")
    async def validate(given: CycleText) -> dict[str, Any]:
        """Check a specification.

        Return its size and advice on doubtful places. 422 names each fault's place.
        """
        document: dict[str, Any] = msgspec.to_builtins(validate_spec(given.text, given.where))
        return document

    @routes.post("/diff")
    async def diff(given: CycleComparison) -> dict[str, list[str]]:
        """Return where a specification differs from a version, as `place: old -> new`."""
        return {
            "differences": await versions.diff(given.text, given.where, given.version),
        }

    @routes.post("/draft")
    async def draft(document: CycleDocument) -> dict[str, str]:
        """Save a draft."""
        return {"fold": await versions.save_draft(document.text, document.author)}

    @routes.post("/publish")
    async def publish(document: CyclePublication) -> dict[str, str]:
        """Fill a version as a shadow beside the live one, then make it live."""
        fold = await versions.publish(document.text, document.author, document.per_second)
        return {"fold": fold}

    @routes.post("/{cycle}/rollback")
    async def rollback(cycle: str, command: OperatorCommand) -> dict[str, str]:
        """Retire a version that is being filled, else publish the previous live version again."""
        return {"fold": await versions.rollback(cycle, command.author)}

    return routes
