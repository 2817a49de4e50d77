"""A request to the tracking API, without its body; independent of the protocol class."""

from collections.abc import Mapping

import msgspec
from starlette.types import Scope

from libs.common.observability.tracing import validate_traceparent
from services.ingest.adapters import WebhookRequest
from services.ingest.api.byte_budget import Reservation
from services.ingest.api.routes import Route
from services.ingest.domain.source import Source

Headers = Mapping[bytes, bytes]


class HttpRequest(msgspec.Struct, frozen=True):
    """Request line and headers.

    Header names are in lower case, `path` is as received, `client` the address of the peer.
    """

    route: Route
    headers: Headers
    method: str
    path: bytes
    query: bytes
    client: str
    scheme: str
    source: Source | None = None
    reservation: Reservation | None = None
    """Source of the key in the headers, and reservation of the body, if looked up already."""

    def own_address(self) -> tuple[str, str]:
        """Return the (host, protocol) that the client called, also through a proxy."""
        headers = self.headers
        host = headers.get(b"x-forwarded-host") or headers.get(b"host", b"localhost")
        protocol = headers.get(b"x-forwarded-proto") or self.scheme.encode()
        return host.decode("latin-1"), "https" if protocol == b"https" else "http"

    def to_webhook_request(self, plain: bytes) -> WebhookRequest:
        """Return the request as an adapter verifies its signature; `plain` is the body."""
        host, protocol = self.own_address()
        query = self.query.decode("latin-1")
        url = f"{protocol}://{host}{self.path.decode('latin-1')}{'?' if query else ''}{query}"
        return WebhookRequest(
            url,
            {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in self.headers.items()
            },
            plain,
        )

    def client_address(self) -> str:
        """Return the client's address: the proxy's X-Forwarded-For, else the connection's."""
        forwarded = self.headers.get(b"x-forwarded-for")
        address = forwarded.decode("latin-1").partition(",")[0].strip() if forwarded else ""
        return address or self.client

    def origin(self) -> str | None:
        """Return the origin of the page that sent the request, in lower case, or None."""
        origin = self.headers.get(b"origin")
        return None if origin is None else origin.decode("latin-1").lower()

    def traceparent(self) -> bytes | None:
        """Return the W3C traceparent, if it is valid."""
        return validate_traceparent(self.headers.get(b"traceparent"))


def request_from_scope(route: Route, scope: Scope) -> HttpRequest:
    """Return the request of an ASGI scope."""
    client = (scope.get("client") or ("",))[0]
    path = scope.get("raw_path") or scope["path"].encode()
    return HttpRequest(
        route,
        dict(scope["headers"]),
        scope["method"],
        path,
        scope.get("query_string", b""),
        client,
        scope.get("scheme", "http"),
    )
