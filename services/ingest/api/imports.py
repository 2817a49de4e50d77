"""`/admin/v1/imports`: files of touchpoints."""

from typing import Annotated, Any

import msgspec
import yaml
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse
from pydantic import Field

from libs.common.api_keys import Caller
from libs.common.errors import ConfigurationError
from libs.common.http.authentication import require_scope
from services.ingest.domain.call_mapping import CallMapping
from services.ingest.domain.source import SourceKey
from services.ingest.handlers.uploads import UploadQueue

Content = Annotated[
    str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file, in hexadecimal")
]
SourceName = Annotated[str, Field(min_length=1, max_length=60)]
Importer = Annotated[Caller, require_scope("imports")]
_DRY_RUN_RESPONSE: dict[int | str, dict[str, Any]] = {200: {"description": "result of a dry run"}}
_FILE = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    "required": True,
}


def router(uploads: UploadQueue) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["imports"])

    @routes.post(
        "/imports",
        status_code=202,
        responses=_DRY_RUN_RESPONSE,
        openapi_extra={"requestBody": _FILE},
    )
    async def create_import(
        caller: Importer,
        request: Request,
        source: SourceName,
        name: Annotated[
            str, Field(max_length=120, description="the file's name; its ending gives the format")
        ],
        mapping: Annotated[
            str,
            Field(max_length=16_000, description="a call in YAML, as `perigee import --mapping`"),
        ] = "",
        live: Annotated[
            bool, Field(description="its touchpoints start plays; history otherwise")
        ] = False,
        dry_run: Annotated[
            bool, Field(description="read and check everything, send nothing; answers 200")
        ] = False,
    ) -> JSONResponse:
        """Import a file (the body) in the background.

        The same file again resumes its import, or adds nothing.
        """
        tree = _parse_mapping(mapping)
        path = await uploads.receive(name, request.stream())
        if dry_run:
            return JSONResponse(
                await uploads.dry_run(path, SourceKey(caller.workspace, source), tree)
            )
        accepted = await uploads.enqueue(
            path, SourceKey(caller.workspace, source), tree, historical=not live
        )
        return JSONResponse(msgspec.to_builtins(accepted), 202)

    @routes.get("/imports")
    async def list_imports(caller: Importer) -> list[dict[str, Any]]:
        """Return the imports with their progress, the newest first."""
        return await uploads.list_imports(caller.workspace)

    @routes.get("/imports/{content}")
    async def progress(caller: Importer, content: Content, source: SourceName) -> dict[str, Any]:
        """Return the progress of the import of a file into a source.

        `finished_at` is set at its end; a `fault` is final unless `queued` is true: then it is
        tried again. `fingerprint` is that of the upload's answer as soon as its rows are read.
        """
        return await uploads.get_import(SourceKey(caller.workspace, source), content)

    @routes.get("/imports/{content}/rejects", response_class=FileResponse)
    async def rejects(
        caller: Importer, content: Content, source: SourceName | None = None
    ) -> FileResponse:
        """Return the rejected rows, as NDJSON with line and reason.

        Without `source` they are those of any source.
        """
        return FileResponse(
            await uploads.rejects_path(caller.workspace, content, source),
            media_type="application/x-ndjson",
        )

    return routes


def _parse_mapping(mapping: str) -> Any:
    """Return the tree of a valid mapping, None for an empty text. Raises ConfigurationError."""
    try:
        tree = yaml.safe_load(mapping) if mapping else None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"mapping is not YAML: {error}") from None
    if mapping:
        CallMapping(tree)
    return tree
