"""Sources of touchpoints and their settings."""

from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from libs.common.errors import ConfigurationError
from libs.common.ids import WorkspaceId

Trust = Literal["public", "server"]
Mode = Literal["live", "historical", "test"]
_PORTS = {"http": 80, "https": 443}
MAX_RATE = 1_000_000


class SourceKey(NamedTuple):
    """Name of a source, unique within its workspace."""

    workspace: WorkspaceId
    name: str


class Source(msgspec.Struct, frozen=True):
    """A source and the permissions of its write keys.

    A `server` source may name the initiative, and vouches for external ids and e-mail addresses.
    With a `user_hash_secret` each user id needs its HMAC-SHA256 (hexadecimal) under that secret. If
    there are `allowed_origins`, pages of other origins are refused. `per_second` bounds the
    messages, `defaults` are properties of messages that lack them. With an `adapter` the source
    accepts the webhooks of another system, signed with the `signing_secret`.
    """

    workspace: WorkspaceId
    name: str
    trust: Trust = "public"
    mode: Mode = "live"
    user_hash_secret: str | None = None
    allowed_origins: tuple[str, ...] = ()
    per_second: int | None = None
    defaults: dict[str, Any] = {}
    adapter: str | None = None
    signing_secret: str | None = None
    adapter_settings: dict[str, Any] = {}

    def allows(self, origin: str | None) -> bool:
        """Return whether a page of the origin may send; only browsers name one."""
        return origin is None or not self.allowed_origins or origin in self.allowed_origins


def parse_origin(text: str) -> str:
    """Return an origin as browsers write it: without the default port, the host as IDNA.

    Raises ConfigurationError.
    """
    error = ConfigurationError(f"{text!r} is no origin: https://shop.example, say, without a path")
    try:
        parts = urlsplit(text.strip().lower())
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except (ValueError, UnicodeError):
        raise error from None
    if (
        parts.scheme not in _PORTS
        or not host
        or parts.path not in ("", "/")
        or parts.query
        or parts.username
    ):
        raise error
    authority = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{authority}" + (
        f":{port}" if port and port != _PORTS[parts.scheme] else ""
    )
