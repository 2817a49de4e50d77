"""What a touchpoint meant under a cycle, for the signals that the cycle publishes."""

from typing import Any, ClassVar

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
    user_id: str | None = None
    anonymous_id: str | None = None
    properties: dict[str, Any] = {}
