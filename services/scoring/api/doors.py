"""The application of both of scoring's doors."""

from fastapi import APIRouter, Depends, FastAPI
from starlette.routing import BaseRoute

from libs.common.doors import PROBLEMS, opened_by, tell_problems


def application(
    routes: list[BaseRoute],
    reading: APIRouter,
    admin: APIRouter,
    cycles: APIRouter,
    *,
    service_key: str,
    admin_key: str,
) -> FastAPI:
    """Return the application; `routes` are the open ones (health)."""
    app = FastAPI(title="Perigee scoring", version="1", docs_url="/docs", redoc_url=None, responses=PROBLEMS)
    app.router.routes.extend(routes)
    app.include_router(reading, prefix="/v1", dependencies=[Depends(opened_by(service_key, admin_key))])
    app.include_router(admin, prefix="/admin/v1", dependencies=[Depends(opened_by(admin_key))])
    app.include_router(cycles, prefix="/admin/v1/cycles", dependencies=[Depends(opened_by(admin_key))])
    tell_problems(app)
    return app
