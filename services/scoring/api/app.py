"""HTTP application of scoring: public API, admin API and health checks."""

from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from libs.common import asyncapi
from libs.common.http.authentication import PROBLEM_RESPONSES, install_problem_handlers


def build_app(routes: list[BaseRoute], public: list[APIRouter], admin: list[APIRouter]) -> FastAPI:
    """Return the application.

    `routes` need no key (health checks); each router declares the scopes that its callers need.
    """
    app = FastAPI(
        title="Perigee scoring",
        version="1",
        docs_url="/docs",
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
    )
    app.router.routes.extend(routes)
    for router in public:
        app.include_router(router, prefix="/v1")
    for router in admin:
        app.include_router(router, prefix="/admin/v1")
    install_problem_handlers(app)
    document = asyncapi.build_document()

    @app.get("/asyncapi.json", include_in_schema=False)
    async def topics() -> dict[str, Any]:
        """Return the AsyncAPI document of the topics; it has no secrets, so it needs no key."""
        return document

    return app
