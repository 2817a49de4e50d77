"""The application of both of scoring's doors."""

from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from libs.common import asyncapi
from libs.common.http.authentication import PROBLEM_RESPONSES, install_problem_handlers


def build_app(routes: list[BaseRoute], reading: list[APIRouter], admin: list[APIRouter]) -> FastAPI:
    """Return the application; `routes` are the open ones (health). Each router says what a caller needs."""
    app = FastAPI(
        title="Perigee scoring",
        version="1",
        docs_url="/docs",
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
    )
    app.router.routes.extend(routes)
    for router in reading:
        app.include_router(router, prefix="/v1")
    for router in admin:
        app.include_router(router, prefix="/admin/v1")
    install_problem_handlers(app)
    messages = asyncapi.build_document()

    @app.get("/asyncapi.json", include_in_schema=False)
    async def topics() -> dict[str, Any]:
        """Return the AsyncAPI document of the topics: it holds no secret, so it needs no key."""
        return messages

    return app
