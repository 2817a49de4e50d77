"""A request to the tracking API, without its body: what HTTP says about it, however it was read."""

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
    """Names of headers are in lower case, `path` is as it came, `client` the address of whoever is at the connection's end."""

    route: Route
    headers: Headers
    method: str
    path: bytes
    query: bytes
    client: str
    scheme: str
    source: Source | None = None
    reservation: Reservation | None = None
    """Whose key is in the headers, and what room its body has, where that was looked up already."""

    def own_address(self) -> tuple[str, str]:
        """Return our own (host, protocol) as the client sees them, through a proxy too."""
        headers = self.headers
        host = headers.get(b"x-forwarded-host") or headers.get(b"host", b"localhost")
        protocol = headers.get(b"x-forwarded-proto") or self.scheme.encode()
        return host.decode("latin-1"), "https" if protocol == b"https" else "http"

    def to_webhook_request(self, plain: bytes) -> WebhookRequest:
        """Return it as an adapter's signature is checked over it."""
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
        """Return the client's address, as a proxy in front of us says it, else the connection's."""
        forwarded = self.headers.get(b"x-forwarded-for")
        named = forwarded.decode("latin-1").partition(",")[0].strip() if forwarded else ""
        return named or self.client

    def origin(self) -> str | None:
        """Return which site's page sent it, if one did."""
        origin = self.headers.get(b"origin")
        return None if origin is None else origin.decode("latin-1").lower()

    def traceparent(self) -> bytes | None:
        """Return the W3C traceparent, if it is one."""
        return validate_traceparent(self.headers.get(b"traceparent"))


def request_from_scope(found: Route, scope: Scope) -> HttpRequest:
    """Return what ASGI says of a request."""
    client = (scope.get("client") or ("",))[0]
    path = scope.get("raw_path") or scope["path"].encode()
    return HttpRequest(
        found,
        dict(scope["headers"]),
        scope["method"],
        path,
        scope.get("query_string", b""),
        client,
        scope.get("scheme", "http"),
    )
