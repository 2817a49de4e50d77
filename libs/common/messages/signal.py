"""Signals: touchpoints that match a published signal of a cycle."""

from typing import Any, ClassVar, Literal

import msgspec

from libs.common.ids import ContactId, WorkspaceId


class Signal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A touchpoint that matches a signal of a cycle, sent once when it is first stored.

    `id` is a hash of workspace, source, message_id, cycle and signal.
    """

    KIND: ClassVar[str] = "perigee.signal.v1"
    TOPIC: ClassVar[str] = "signals"

    id: str
    workspace: WorkspaceId
    contact_id: ContactId
    cycle: str
    signal: str
    occurred_at: int
    received_at: int
    source: str
    message_id: str
    historical: bool = False
    trust: Literal["public", "server"] = "public"
    """Origin of the touchpoint: a server, or a page with a public write key."""
    user_id: str | None = None
    anonymous_id: str | None = None
    properties: dict[str, Any] = {}
