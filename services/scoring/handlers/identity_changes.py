"""After a correction: queue who has to be folded again, raise versions, tell the topics."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.identity import Key
from services.scoring.handlers.contact_messages import build_contact_messages
from services.scoring.handlers.contact_resolution import ResolutionResult
from services.scoring.repository import accounts, corrections, fold_states, identity
from services.scoring.repository.fold_states import FoldRows, RefoldRequest
from services.scoring.repository.identity import MovedTouchpoint
from services.scoring.repository.touchpoint_history import FIRST_KEY


async def refold_starts(
    connection: Connection, moved: Sequence[MovedTouchpoint], regrouped: AbstractSet[str]
) -> dict[str, Key]:
    """Return from which key each contact is folded again that won or lost touchpoints, or was regrouped with a stage.

    A stage set by hand goes with its identifier: where there is one, everybody concerned begins at the beginning.
    """
    found: dict[str, Key] = {}
    for m in moved:
        for contact in (m.old, m.new):
            found[contact] = min(found.get(contact, m.key), m.key)
    concerned = found.keys() | regrouped
    if concerned and await corrections.get_manual_stages(connection, concerned):
        return dict.fromkeys(sorted(concerned), FIRST_KEY)
    return found


async def publish_identity_change(
    connection: Connection,
    outbox: Outbox,
    cycles: Sequence[ActiveCycle],
    found: ResolutionResult,
    reason: str,
) -> None:
    """Write what follows from a change of people."""
    begin = await refold_starts(connection, found.moved, found.contacts)
    now = await identity.lock_contacts(connection, found.contacts | begin.keys())
    changed = {contact for contact, row in now.items() if row.merged_into is None}
    wanted = {
        c: RefoldRequest(reason, key, rebuild_profile=True)
        for c, key in begin.items()
        if c in changed
    }
    await fold_states.upsert_rows(
        connection, FoldRows(contacts=dict.fromkeys(changed | found.merged.keys(), (None, True)))
    )
    await fold_states.enqueue_refolds(connection, wanted)
    await accounts.insert_moved_memberships(connection, found.moved)
    await accounts.enqueue_members(connection, begin, reason)
    await outbox.insert_messages(
        connection, await build_contact_messages(connection, cycles, changed, found.merged)
    )
