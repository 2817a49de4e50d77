"""Which path means what. SDKs are given a host and append paths of their own, long, short and with stray slashes."""

from typing import Literal

import msgspec

from services.ingest.domain.normalise import CALL_TYPES

Kind = Literal["batch", "call", "ignored", "project_settings", "source_config"]
_BATCH = frozenset(("batch", "import", "b"))
_SHORT = {name[0]: name for name in CALL_TYPES}
METHODS: dict[Kind, tuple[str, ...]] = {
    "batch": ("POST",),
    "call": ("POST",),
    "ignored": ("POST",),
    "project_settings": ("GET",),
    "source_config": ("GET", "HEAD"),
}


class Route(msgspec.Struct, frozen=True):
    """What a path asks for; `call_type` of a single call, `key` where the path names a write key."""

    kind: Kind
    call_type: str | None = None
    key: str | None = None


def route(path: str) -> Route | None:
    """Return what a path of the tracking API asks for, or None for any other path.

    /v1/batch|import|b          Segment's libraries, analytics-next in batches
    /v1/track … and /v1/t …     one call; the browser library knows the short names only
    /v1/m                       analytics-next's measurements of itself
    /v1/projects/KEY/settings   analytics-next before its first event
    /sourceConfig               RudderStack's browser library before its first event
    /beacon/v1/batch            the same when a page is left
    /api/s/track …, /api/s/s2s/track …      Jitsu
    """
    match [part for part in path.split("/") if part]:
        case ["v1", name] if name in _BATCH:
            return Route("batch")
        case ["beacon", "v1", "batch"]:
            return Route("batch")
        case ["v1", "m"]:
            return Route("ignored")
        case ["v1", name] if _SHORT.get(name, name) in CALL_TYPES:
            return Route("call", _SHORT.get(name, name))
        case ["api", "s", name] | ["api", "s", "s2s", name] if name in CALL_TYPES:
            return Route("call", name)
        case ["v1", "projects", key, "settings"]:
            return Route("project_settings", key=key)
        case ["sourceConfig"]:
            return Route("source_config")
    return None
