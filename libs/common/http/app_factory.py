"""The FastAPI application of a service: problem details, routers, open routes."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from libs.common.http.problem_details import PROBLEM_RESPONSES, install_problem_handlers


def build_app(
    title: str,
    *,
    open_routes: Sequence[BaseRoute] = (),
    public_routers: Sequence[APIRouter] = (),
    admin_routers: Sequence[APIRouter] = (),
) -> FastAPI:
    """Return an application with public routers under `/v1` and admin routers under `/admin/v1`.

    `open_routes` need no key (health, links in messages). The routers declare their scopes; the
    keys themselves are checked by `AuthenticationMiddleware` around the application.
    """
    app = FastAPI(
        title=title,
        version="1",
        docs_url="/docs",
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
    )
    app.router.routes.extend(open_routes)
    for router in public_routers:
        app.include_router(router, prefix="/v1")
    for router in admin_routers:
        app.include_router(router, prefix="/admin/v1")
    install_problem_handlers(app)
    return app
