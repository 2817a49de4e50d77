"""`/r/CODE`: referral links; `/admin/v1/referrals`: referral codes and referred contacts."""

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
    """The contact for which a code is requested."""

    model_config = ConfigDict(extra="forbid")

    who: str = Field(min_length=1, max_length=300)


def referral_redirect_route(service: ReferralService) -> Route:
    """Return `/r/{code}`, a redirect without other effects, since scanners open every link."""

    async def answer(request: Request) -> Response:
        code = request.path_params["code"].strip().lower()[:60]
        url = await service.landing_url(code, request.query_params.get("to", ""))
        if url is None:
            return PlainTextResponse("This link has no target: PERIGEE_SITE is not set.", 404)
        return RedirectResponse(
            url, 302, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        )

    return Route("/r/{code}", answer, methods=["GET"])


def router(service: ReferralService) -> APIRouter:
    """Return the operator's routes."""
    routes = APIRouter(tags=["referrals"])

    @routes.get("/referrals")
    async def list_referrals(
        caller: PlayEditor, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> list[dict[str, Any]]:
        """Return the referred contacts with code, status and reason."""
        rows = await service.list_referrals(caller.workspace, limit)
        return [msgspec.to_builtins(row) for row in rows]

    @routes.post("/referrals/codes")
    async def issue_code(caller: PlayEditor, request: ReferralCodeRequest) -> dict[str, str]:
        """Return a contact's referral code and link."""
        code = await service.issue_code(caller.workspace, request.who)
        body: dict[str, str] = msgspec.to_builtins(code)
        return body

    return routes
