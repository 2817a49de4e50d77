"""Unsubscribe links: GET shows a page without effects, since scanners fetch every link."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from libs.common.ids import ContactId
from services.orchestrator.domain.unsubscribe_token import verify_token

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Unsubscribe</title>
<main><h1>{title}</h1><p>{text}</p>{form}</main></html>"""
_FORM = '<form method="post"><button type="submit">Unsubscribe</button></form>'

SuppressContact = Callable[[ContactId, str], Awaitable[None]]


def unsubscribe_route(secret: str, suppress: SuppressContact) -> Route:
    """Return `/u/{token}`; the suppression is committed before the answer."""

    async def answer(request: Request) -> Response:
        contact_channel = verify_token(secret, request.path_params["token"])
        if contact_channel is None:
            page = _PAGE.format(title="Unknown link", text="This link is incomplete.", form="")
            return HTMLResponse(page, status_code=404)
        if request.method == "POST":
            await suppress(*contact_channel)
            return HTMLResponse(
                _PAGE.format(
                    title="Done", text="You will not receive these mails any more.", form=""
                )
            )
        text = "Click the button to stop receiving these mails."
        return HTMLResponse(_PAGE.format(title="Unsubscribe", text=text, form=_FORM))

    return Route("/u/{token}", answer, methods=["GET", "POST"])
