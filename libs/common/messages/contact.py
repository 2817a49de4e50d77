"""Contact snapshots on a compacted topic.

A consumer reads the snapshots first, then `stage-changes` from `sequence`.
"""

from typing import Any, ClassVar

import msgspec

from libs.common.ids import ContactId, WorkspaceId


class CycleState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Position of the contact in one cycle, and the last `sequence` that it includes."""

    stage: str
    axes: dict[str, str]
    dormant: bool
    instance: str
    sequence: int
    crm: dict[str, str] = {}
    """Names of the stage in other systems, by system."""


class ContactSnapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Latest state of one contact.

    `merged_into` is the surviving contact after a merge; a tombstone follows.
    """

    KIND: ClassVar[str] = "perigee.contact.v1"
    TOPIC: ClassVar[str] = "contacts"

    workspace: WorkspaceId
    contact_id: ContactId
    version: int
    user_ids: list[str] = []
    anonymous_ids: list[str] = []
    identifiers: list[str] = []
    """Verified e-mail addresses and external ids, as `type:value`."""
    traits: dict[str, Any] = {}
    cycles: dict[str, CycleState] = {}
    merged_into: ContactId | None = None
