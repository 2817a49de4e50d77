"""Consequences of an identity change: versions, re-folds, accounts and messages."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from libs.common.ids import ContactId
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.identity import Key
from services.scoring.handlers.contact_messages import raise_events_and_build_messages
from services.scoring.handlers.contact_resolution import ResolutionResult
from services.scoring.repository import accounts, corrections, fold_states, identity
from services.scoring.repository.fold_rows import FoldRows
from services.scoring.repository.fold_states import RefoldRequest
from services.scoring.repository.touchpoint_history import FIRST_KEY
from services.scoring.repository.touchpoint_reassignment import MovedTouchpoint


async def refold_starts(
    connection: Connection,
    moved: Sequence[MovedTouchpoint],
    resolved_contacts: AbstractSet[ContactId],
) -> dict[ContactId, Key]:
    """Return the first key to fold again of each contact that won or lost touchpoints.

    A manual stage moves with its identifier. If any contact concerned has one, all of them, with
    `resolved_contacts`, start from the first touchpoint.
    """
    start_keys: dict[ContactId, Key] = {}
    for m in moved:
        for contact in (m.old, m.new):
            start_keys[contact] = min(start_keys.get(contact, m.key), m.key)
    concerned = start_keys.keys() | resolved_contacts
    if concerned and await corrections.get_manual_stages(connection, concerned):
        return dict.fromkeys(sorted(concerned), FIRST_KEY)
    return start_keys


async def publish_identity_change(
    connection: Connection,
    outbox: Outbox,
    cycles: Sequence[ActiveCycle],
    resolution: ResolutionResult,
    reason: str,
) -> None:
    """Write the consequences of an identity change.

    Locks the contacts concerned, which include new ones, in id order. Then writes contact versions,
    re-fold queue, memberships, account queue and outbox, in this order.
    """
    start_keys = await refold_starts(connection, resolution.moved, resolution.contacts)
    locked = await identity.lock_contacts(connection, resolution.contacts | start_keys.keys())
    unmerged = {contact for contact, row in locked.items() if row.merged_into is None}
    refolds = {
        contact: RefoldRequest(reason, key, rebuild_profile=True)
        for contact, key in start_keys.items()
        if contact in unmerged
    }
    await fold_states.upsert_rows(
        connection,
        FoldRows(contacts=dict.fromkeys(unmerged | resolution.merged.keys(), (None, True))),
    )
    await fold_states.enqueue_refolds(connection, refolds)
    await accounts.insert_moved_memberships(connection, resolution.moved)
    await accounts.enqueue_accounts_of(connection, start_keys, reason)
    await outbox.insert_messages(
        connection,
        await raise_events_and_build_messages(connection, cycles, unmerged, resolution.merged),
    )
