"""`/admin/v1/schemas`: JSON Schemas of plays and definitions."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.definition_schemas import build_schema

PlayEditor = Annotated[Caller, require_scope("plays")]


def router() -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["definitions"])

    @routes.get("/schemas/{kind}")
    async def schema(
        _: PlayEditor, kind: Literal["play", "content", "segment", "destination", "condition"]
    ) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of a kind of file, for editors."""
        return build_schema(kind)

    return routes
