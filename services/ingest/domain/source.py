"""Where touchpoints come from."""

from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from libs.common.errors import ConfigurationError

Trust = Literal["public", "server"]
Mode = Literal["live", "historical", "test"]
_PORTS = {"http": 80, "https": 443}
MAX_RATE = 1_000_000


class Source(msgspec.Struct, frozen=True):
    """A source and what its keys may do.

    `server` sources may say who took the initiative, and vouch for external ids and e-mail addresses. With a
    `user_hash_secret` a user id counts only beside its HMAC-SHA256 (hexadecimal) under that secret. Pages of other origins
    than `allowed_origins` are refused, where there are any; `per_second` bounds the messages taken, `defaults` are properties
    that a message does not have itself. With an `adapter` it takes what another system sends, in that one's shape, signed under
    the `signing_secret`.
    """

    workspace: str
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
        """Return whether a page of the origin may send; what names no origin is no browser."""
        return origin is None or not self.allowed_origins or origin in self.allowed_origins


def parse_origin(text: str) -> str:
    """Return an origin as browsers write it: no default port, and names in other scripts as IDNA. Raises ConfigurationError."""
    wrong = ConfigurationError(f"{text!r} is no origin: https://shop.example, say, without a path")
    try:
        parts = urlsplit(text.strip().lower())
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except (ValueError, UnicodeError):
        raise wrong from None
    if (
        parts.scheme not in _PORTS
        or not host
        or parts.path not in ("", "/")
        or parts.query
        or parts.username
    ):
        raise wrong
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (
        f":{port}" if port and port != _PORTS[parts.scheme] else ""
    )
