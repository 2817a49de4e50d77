"""Where touchpoints come from."""

from typing import Literal

import msgspec


class Source(msgspec.Struct, frozen=True):
    """A source and what its key may do.

    `server` sources may say who took the initiative, and vouch for external ids and e-mail addresses. With a
    `user_hash_secret` a user id counts only beside its HMAC-SHA256 (hexadecimal) under that secret.
    """

    workspace: str
    name: str
    trust: Literal["public", "server"] = "public"
    mode: Literal["live", "historical", "test"] = "live"
    user_hash_secret: str | None = None
