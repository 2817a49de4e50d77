"""After a correction: queue who has to be folded again, raise versions, tell the topics."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from libs.common.db.connection import Connection
from libs.common.db.outbox import Outbox
from services.scoring.domain.cycle import Cycle
from services.scoring.domain.identity import Key
from services.scoring.handlers.news import news
from services.scoring.handlers.regroup import Regrouped
from services.scoring.repository import accounts, corrections, identity, states
from services.scoring.repository.history import BEFORE_ALL
from services.scoring.repository.identity import Moved
from services.scoring.repository.states import Refold, Rows


async def starts(connection: Connection, moved: Sequence[Moved], regrouped: AbstractSet[str]) -> dict[str, Key]:
    """Return from which key each contact is folded again that won or lost touchpoints, or was regrouped with a stage.

    A stage set by hand goes with its identifier: where there is one, everybody concerned begins at the beginning.
    """
    found: dict[str, Key] = {}
    for m in moved:
        for contact in (m.old, m.new):
            found[contact] = min(found.get(contact, m.key), m.key)
    concerned = found.keys() | regrouped
    if concerned and await corrections.manuals(connection, concerned):
        return dict.fromkeys(sorted(concerned), BEFORE_ALL)
    return found


async def tell(
    connection: Connection,
    outbox: Outbox,
    cycles: Sequence[Cycle],
    found: Regrouped,
    reason: str,
) -> None:
    """Write what follows from a change of people."""
    begin = await starts(connection, found.moved, found.changed)
    now = await identity.lock(connection, found.changed | begin.keys())
    changed = {contact for contact, row in now.items() if row.merged_into is None}
    wanted = {c: Refold(reason, key, relearn=True) for c, key in begin.items() if c in changed}
    await states.save(connection, Rows(contacts=dict.fromkeys(changed | found.merged.keys(), (None, True))))
    await states.enqueue_refolds(connection, wanted)
    await accounts.follow(connection, found.moved)
    await accounts.enqueue(connection, begin, reason)
    await outbox.insert_messages(connection, await news(connection, cycles, changed, found.merged))
