"""A contact as it stands, on a compacted topic: snapshot first, then follow `stage-changes` from `sequence`."""

from typing import Any, ClassVar

import msgspec


class CycleState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the contact stands in one cycle, and the last `sequence` that this covers."""

    stage: str
    axes: dict[str, str]
    dormant: bool
    instance: str
    sequence: int
    crm: dict[str, str] = {}
    """What other systems call the stage, by system."""


class ContactSnapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last known state of one contact. `merged_into` names the survivor; a tombstone follows it."""

    KIND: ClassVar[str] = "perigee.contact.v1"
    TOPIC: ClassVar[str] = "contacts"

    workspace: str
    contact_id: str
    version: int
    user_ids: list[str] = []
    anonymous_ids: list[str] = []
    identifiers: list[str] = []
    """Verified e-mail addresses and external ids, as `type:value`."""
    traits: dict[str, Any] = {}
    cycles: dict[str, CycleState] = {}
    merged_into: str | None = None
