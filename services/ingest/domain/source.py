"""Where touchpoints come from."""

from typing import Literal

import msgspec


class Source(msgspec.Struct, frozen=True):
    """A source and what its key may do: `server` sources may say who took the initiative."""

    workspace: str
    name: str
    trust: Literal["public", "server"] = "public"
    mode: Literal["live", "historical", "test"] = "live"
