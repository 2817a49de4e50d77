"""Before anything is folded: the cycles of the folder, where the database knows none of the name."""

from collections.abc import Sequence
from datetime import UTC, datetime

from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.observability import logs
from services.scoring.domain.cycle_spec import CycleSpec, spec_fingerprint
from services.scoring.repository import accounts, cycle_versions, fold_states
from services.scoring.repository.cycle_versions import VersionRow

log = logs.get_logger(__name__)


async def install_cycles(
    session: Session, files: Sequence[tuple[CycleSpec, str]], author: str = "the cycles folder"
) -> list[str]:
    """Make each (specification, text) whose cycle is not known a version, and return what was installed.

    The first cycles of an empty database are live at once; later ones begin as shadows, since contacts have a past.
    A file that differs from what is live is not taken over: `perigee cycle publish` does that. Raises Unavailable.
    """
    async with session.acquire() as connection, unit_of_work(connection):
        await cycle_versions.lock_versions_exclusive(connection)
        known = {
            (row.cycle, row.version): row for row in await cycle_versions.list_versions(connection)
        }
        cycles = {cycle for cycle, _ in known}
        new = [(spec, text) for spec, text in files if spec.cycle not in cycles]
        for spec, text in new:
            row = draft_version(spec, text, author)
            await cycle_versions.upsert_version(connection, row)
            if spec.subject == "account":
                await activate_account_cycle(connection, spec)
            elif known:
                await cycle_versions.update_status(connection, spec.cycle, spec.version, "shadow")
            else:
                await cycle_versions.update_status(connection, spec.cycle, spec.version, "live")
                await cycle_versions.update_progress(connection, row, "told_to", None)
        if new and not known:
            await fold_states.enqueue_all_refolds(connection)
        stale = [
            spec.cycle
            for spec, _ in files
            if spec.cycle in cycles
            and not any(
                row.fingerprint == spec_fingerprint(spec)
                for (c, _), row in known.items()
                if c == spec.cycle
            )
        ]
    if stale:
        log.warning("cycle_file_not_published", cycles=stale, cure="perigee cycle publish FILE")
    return [spec.cycle for spec, _ in new]


async def activate_account_cycle(connection: Connection, spec: CycleSpec) -> None:
    """Make a cycle of accounts live at once: accounts are few, and all of them are folded again from their queue."""
    await cycle_versions.update_status(connection, spec.cycle, spec.version, "live")
    row = await cycle_versions.get_version(connection, spec.cycle, spec.version)
    assert row is not None
    await cycle_versions.update_progress(connection, row, "told_to", None)
    await accounts.enqueue_all(connection, "cycle_published")


def draft_version(spec: CycleSpec, text: str, author: str, per_second: int = 500) -> VersionRow:
    """Return a version as it is stored first: a draft."""
    now = datetime.now(UTC)
    return VersionRow(
        spec.cycle,
        spec.version,
        "draft",
        text,
        spec_fingerprint(spec),
        author,
        now,
        None,
        None,
        None,
        None,
        None,
        per_second,
    )
