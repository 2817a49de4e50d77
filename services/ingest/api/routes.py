"""Routes of the tracking API.

SDKs are given a host and append paths of their own: long, short and with extra slashes.
"""

import re
from typing import Literal

import msgspec

from services.ingest.domain.normalise import CALL_TYPES

RouteKind = Literal[
    "batch",
    "call",
    "ignored",
    "project_settings",
    "source_config",
    "tracker",
    "pixel",
    "hook",
    "openapi",
]
_BATCH = frozenset(("batch", "import", "b"))
_SHORT = {name[0]: name for name in CALL_TYPES}
_TRACKER = re.compile(r"perigee(-[0-9]+)?\.js")
POST_ONLY = ("POST",)
"""Methods of the routes that send data; all others only read."""
METHODS: dict[RouteKind, tuple[str, ...]] = {
    "batch": POST_ONLY,
    "call": POST_ONLY,
    "ignored": POST_ONLY,
    "project_settings": ("GET",),
    "source_config": ("GET", "HEAD"),
    "tracker": ("GET", "HEAD"),
    "pixel": ("GET",),
    "hook": POST_ONLY,
    "openapi": ("GET", "HEAD"),
}


class Route(msgspec.Struct, frozen=True):
    """Meaning of a path.

    `call_type` is that of a single call, `key` a write key in the path, `file` one of the tracker.
    """

    kind: RouteKind
    call_type: str | None = None
    key: str | None = None
    file: str = ""


_EXACT = {
    **{f"/v1/{name}": Route("batch") for name in _BATCH},
    **{f"/v1/{name}": Route("call", name) for name in CALL_TYPES},
    **{f"/v1/{short}": Route("call", name) for short, name in _SHORT.items()},
    **{f"/api/s/{name}": Route("call", name) for name in CALL_TYPES},
    **{f"/api/s/s2s/{name}": Route("call", name) for name in CALL_TYPES},
    "/beacon/v1/batch": Route("batch"),
    "/v1/m": Route("ignored"),
    "/v1/pixel.gif": Route("pixel"),
    "/v1/hook": Route("hook"),
    "/v1/openapi.json": Route("openapi"),
    "/sourceConfig": Route("source_config"),
}
BUFFERED_ROUTES = {
    path.encode(): route for path, route in _EXACT.items() if METHODS[route.kind] is POST_ONLY
}
"""Routes that send data, by the path of the request line."""


def match_route(path: str) -> Route | None:
    """Return the route of a path of the tracking API, or None for any other path.

    /v1/batch|import|b          Segment's libraries, analytics-next in batches
    /v1/track … and /v1/t …     one call; the browser library knows the short names only
    /v1/m                       analytics-next's metrics about itself
    /v1/projects/KEY/settings   analytics-next before its first event
    /sourceConfig               RudderStack's browser library before its first event
    /beacon/v1/batch            the same library when a page is left
    /api/s/track …, /api/s/s2s/track …      Jitsu
    /perigee.js, /perigee-1.js  Perigee's tracker: the newest, and a version that never changes
    /v1/pixel.gif               one call in the URL of an image, where no script runs
    /v1/openapi.json            the OpenAPI document of these paths
    /v1/hook, /v1/hook/KEY      webhooks in the format of the source's adapter
    """
    route = _EXACT.get(path)
    if route is None:
        parts = tuple(part for part in path.split("/") if part)
        route = _EXACT.get("/" + "/".join(parts)) or _route_with_parameter(parts)
    return route


def _route_with_parameter(parts: tuple[str, ...]) -> Route | None:
    match parts:
        case ("v1", "projects", key, "settings"):
            return Route("project_settings", key=key)
        case ("v1", "hook", key):
            return Route("hook", key=key)
        case (file,) if _TRACKER.fullmatch(file):
            return Route("tracker", file=file)
    return None
