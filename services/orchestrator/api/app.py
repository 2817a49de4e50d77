"""FastAPI application of the orchestrator's public and admin APIs."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from libs.common.http.authentication import PROBLEM_RESPONSES, install_problem_handlers


def build_app(
    routes: Sequence[BaseRoute], reading: Sequence[APIRouter], admin: Sequence[APIRouter]
) -> FastAPI:
    """Return the application; `routes` need no key (health, unsubscribe links)."""
    app = FastAPI(
        title="Perigee orchestrator",
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
    return app
