"""Which path means what. SDKs are given a host and append paths of their own, long, short and with stray slashes."""

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
"""How what is sent comes; all else only asks."""
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
    """What a path asks for; `call_type` of a single call, `key` where the path names a write key, `file` of the tracker."""

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
    path.encode(): found for path, found in _EXACT.items() if METHODS[found.kind] is POST_ONLY
}
"""Those that take what comes, as a request's first line has them."""


def match_route(path: str) -> Route | None:
    """Return what a path of the tracking API asks for, or None for any other path.

    /v1/batch|import|b          Segment's libraries, analytics-next in batches
    /v1/track … and /v1/t …     one call; the browser library knows the short names only
    /v1/m                       analytics-next's measurements of itself
    /v1/projects/KEY/settings   analytics-next before its first event
    /sourceConfig               RudderStack's browser library before its first event
    /beacon/v1/batch            the same when a page is left
    /api/s/track …, /api/s/s2s/track …      Jitsu
    /perigee.js, /perigee-1.js  our own tracker: the newest, and a version that stays as it is
    /v1/pixel.gif               one call in a picture's address, where no script runs
    /v1/openapi.json            this list for programs
    /v1/hook, /v1/hook/KEY      what other systems send, in the shape of the source's adapter
    """
    found = _EXACT.get(path)
    if found is None:
        parts = tuple(part for part in path.split("/") if part)
        found = _EXACT.get("/" + "/".join(parts)) or _named(parts)
    return found


def _named(parts: tuple[str, ...]) -> Route | None:
    match parts:
        case ("v1", "projects", key, "settings"):
            return Route("project_settings", key=key)
        case ("v1", "hook", key):
            return Route("hook", key=key)
        case (file,) if _TRACKER.fullmatch(file):
            return Route("tracker", file=file)
    return None
