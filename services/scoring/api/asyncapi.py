"""`/asyncapi.json`: the AsyncAPI document of the topics. Public: it contains no secret."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from libs.common import asyncapi


def asyncapi_route() -> Route:
    """Return the route; the document is built once."""
    document = asyncapi.build_document()

    async def get_document(_: Request) -> Response:
        return JSONResponse(document)

    return Route("/asyncapi.json", get_document, methods=["GET"])
