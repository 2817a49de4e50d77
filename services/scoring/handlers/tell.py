"""After a correction: queue who has to be folded again, raise versions, tell the topics."""

from collections.abc import Mapping, Sequence

from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from services.scoring.domain.cycle import Cycle
from services.scoring.domain.identity import Key
from services.scoring.handlers.regroup import Regrouped
from services.scoring.handlers.snapshots import snapshots
from services.scoring.repository import accounts, corrections, identity, states
from services.scoring.repository.history import BEFORE_ALL
from services.scoring.repository.identity import Locked, Moved
from services.scoring.repository.states import Refold, Rows


async def starts(connection: Connection, moved: Sequence[Moved]) -> dict[str, Key]:
    """Return from which key each contact that won or lost touchpoints is folded again.

    A stage set by hand goes with its identifier: where there is one, everybody concerned begins at the beginning.
    """
    found: dict[str, Key] = {}
    for m in moved:
        for contact in (m.old, m.new):
            found[contact] = min(found.get(contact, m.key), m.key)
    if found and await corrections.manuals(connection, found):
        return dict.fromkeys(found, BEFORE_ALL)
    return found


async def tell(
    connection: Connection,
    outbox: Outbox,
    cycles: Sequence[Cycle],
    found: Regrouped,
    reason: str,
    locked: Mapping[str, Locked],
) -> None:
    """Write what follows from a change of people."""
    begin = await starts(connection, found.moved)
    changed = (found.changed | begin.keys()) - found.merged.keys()
    wanted = {c: Refold(reason, key, relearn=True) for c, key in begin.items() if c in changed}
    wanted |= {c: Refold(reason, BEFORE_ALL, relearn=True, gather=True) for c in found.gather}
    await identity.lock(connection, changed - locked.keys())
    await states.save(connection, Rows(contacts=dict.fromkeys(changed | found.merged.keys(), (None, True))))
    await states.enqueue_refolds(connection, wanted)
    await accounts.follow(connection, found.moved)
    await accounts.enqueue(connection, begin, reason)
    await outbox.write(connection, await snapshots(connection, cycles, changed, found.merged))
