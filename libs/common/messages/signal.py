"""What a touchpoint meant under a cycle, for the signals that the cycle publishes."""

from typing import Any, ClassVar, Literal

import msgspec


class Signal(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sent once, when the touchpoint is first stored; `id` hashes workspace, source, message_id, cycle and signal."""

    KIND: ClassVar[str] = "perigee.signal.v1"
    TOPIC: ClassVar[str] = "signals"

    id: str
    workspace: str
    contact_id: str
    cycle: str
    signal: str
    occurred_at: int
    received_at: int
    source: str
    message_id: str
    historical: bool = False
    trust: Literal["public", "server"] = "public"
    """Whether a server told it, or anybody who has the write key of a page."""
    user_id: str | None = None
    anonymous_id: str | None = None
    properties: dict[str, Any] = {}
