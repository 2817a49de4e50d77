"""`/r/CODE`: a friend's link; `/admin/v1/referrals`: codes, and who came by them."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from libs.common.api_keys import Caller
from libs.common.http.authentication import require_scope
from services.orchestrator.handlers.referrals import ReferralService

PlayEditor = Annotated[Caller, require_scope("plays")]


class ReferralCodeRequest(BaseModel):
    """Whose code is asked for."""

    model_config = ConfigDict(extra="forbid")

    who: str = Field(min_length=1, max_length=300)


def referral_route(desk: ReferralService) -> Route:
    """Return `/r/{code}`: it leads to the site and changes nothing, since scanners open every link."""

    async def answer(request: Request) -> Response:
        code = request.path_params["code"].strip().lower()[:60]
        where = await desk.landing_url(code, request.query_params.get("to", ""))
        if where is None:
            return PlainTextResponse("This link leads nowhere yet: PERIGEE_SITE is not set.", 404)
        return RedirectResponse(
            where, 302, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        )

    return Route("/r/{code}", answer, methods=["GET"])


def router(desk: ReferralService) -> APIRouter:
    """Return the operator's routes."""
    routes = APIRouter(tags=["referrals"])

    @routes.get("/referrals")
    async def every(
        caller: PlayEditor, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> list[dict[str, Any]]:
        """Return who came by whose code, and what came of it."""
        return [
            msgspec.to_builtins(one) for one in await desk.list_referrals(caller.workspace, limit)
        ]

    @routes.post("/referrals/codes")
    async def code(caller: PlayEditor, given: ReferralCodeRequest) -> dict[str, str]:
        """Return a contact's code and link."""
        found: dict[str, str] = msgspec.to_builtins(
            await desk.issue_code(caller.workspace, given.who)
        )
        return found

    return routes
