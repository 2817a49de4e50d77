"""Before anything is folded: the cycles of the folder, where the database knows none of the name."""

from collections.abc import Sequence
from datetime import UTC, datetime

from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.observability import logs
from services.scoring.domain.spec import CycleSpec, fingerprint
from services.scoring.repository import accounts, states, versions
from services.scoring.repository.versions import VersionRow

log = logs.get_logger(__name__)


async def install(
    session: Session, files: Sequence[tuple[CycleSpec, str]], author: str = "the cycles folder"
) -> list[str]:
    """Make each (specification, text) whose cycle is not known a version, and return what was installed.

    The first cycles of an empty database are live at once; later ones begin as shadows, since contacts have a past.
    A file that differs from what is live is not taken over: `perigee cycle publish` does that. Raises Unavailable.
    """
    async with session.acquire() as connection, unit_of_work(connection):
        await versions.hold_alone(connection)
        known = {(row.cycle, row.version): row for row in await versions.every(connection)}
        cycles = {cycle for cycle, _ in known}
        new = [(spec, text) for spec, text in files if spec.cycle not in cycles]
        for spec, text in new:
            row = first_row(spec, text, author)
            await versions.add(connection, row)
            if spec.subject == "account":
                await begin_accounts(connection, spec)
            elif known:
                await versions.become(connection, spec.cycle, spec.version, "shadow")
            else:
                await versions.become(connection, spec.cycle, spec.version, "live")
                await versions.move(connection, row, "told_to", None)
        if new and not known:
            await states.refold_everybody(connection)
        stale = [
            spec.cycle
            for spec, _ in files
            if spec.cycle in cycles
            and not any(row.fingerprint == fingerprint(spec) for (c, _), row in known.items() if c == spec.cycle)
        ]
    if stale:
        log.warning("cycle_file_not_published", cycles=stale, cure="perigee cycle publish FILE")
    return [spec.cycle for spec, _ in new]


async def begin_accounts(connection: Connection, spec: CycleSpec) -> None:
    """Make a cycle of accounts live at once: accounts are few, and all of them are folded again from their queue."""
    await versions.become(connection, spec.cycle, spec.version, "live")
    row = await versions.one(connection, spec.cycle, spec.version)
    assert row is not None
    await versions.move(connection, row, "told_to", None)
    await accounts.enqueue_all(connection, "cycle_published")


def first_row(spec: CycleSpec, text: str, author: str, per_second: int = 500) -> VersionRow:
    """Return a version as it is stored first: a draft."""
    now = datetime.now(UTC)
    return VersionRow(
        spec.cycle,
        spec.version,
        "draft",
        text,
        fingerprint(spec),
        author,
        now,
        None,
        None,
        None,
        None,
        None,
        per_second,
    )
