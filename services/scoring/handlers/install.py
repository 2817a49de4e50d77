"""Before anything is folded: whether the stored states are those of these cycles."""

from collections.abc import Sequence

from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.observability import logs
from services.scoring.domain.cycle import Cycle
from services.scoring.domain.spec import fingerprint
from services.scoring.repository import cycles as repository

log = logs.get(__name__)


async def install(session: Session, cycles: Sequence[Cycle]) -> int:
    """Note the cycles; where one has changed, queue every contact to be folded again.

    Returns how many were queued. The net changes go out with the reason `cycle_published`. Raises Unavailable when the
    database does not answer.
    """
    async with session.use() as connection, unit_of_work(connection):
        changed = [
            cycle.engine.name
            for cycle in cycles
            if await repository.install(
                connection, cycle.engine.name, cycle.engine.version, fingerprint(cycle.engine.spec)
            )
        ]
        queued = await repository.refold_everybody(connection) if changed else 0
    if changed:
        log.warning("cycles_changed", cycles=changed, contacts=queued)
    return queued
