"""Installation of the cycles in the cycles folder, at the start of the service."""

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
    """Install each (specification, text) of a cycle without a stored version; return their names.

    In one transaction under the exclusive lock on cycle versions. The first cycles of an empty
    database are live at once; later cycles start as shadows, since contacts have a history. A file
    that differs from the stored versions is only logged: `perigee cycle publish` publishes it.
    Raises Unavailable.
    """
    async with session.acquire() as connection, unit_of_work(connection):
        await cycle_versions.lock_versions_exclusive(connection)
        stored = {
            (row.cycle, row.version): row for row in await cycle_versions.list_versions(connection)
        }
        cycles = {cycle for cycle, _ in stored}
        new = [(spec, text) for spec, text in files if spec.cycle not in cycles]
        for spec, text in new:
            row = build_draft_version(spec, text, author)
            await cycle_versions.upsert_version(connection, row)
            if spec.subject == "account":
                await activate_account_cycle(connection, spec)
            elif stored:
                await cycle_versions.update_status(connection, spec.cycle, spec.version, "shadow")
            else:
                await cycle_versions.update_status(connection, spec.cycle, spec.version, "live")
                await cycle_versions.update_progress(connection, row, "told_to", None)
        if new and not stored:
            await fold_states.enqueue_all_refolds(connection)
        stale = [
            spec.cycle
            for spec, _ in files
            if spec.cycle in cycles
            and not any(
                row.fingerprint == spec_fingerprint(spec)
                for (c, _), row in stored.items()
                if c == spec.cycle
            )
        ]
    if stale:
        log.warning("cycle_file_not_published", cycles=stale, cure="perigee cycle publish FILE")
    return [spec.cycle for spec, _ in new]


async def activate_account_cycle(connection: Connection, spec: CycleSpec) -> None:
    """Make an account cycle live without a shadow, and queue every account for a re-fold.

    Accounts are few, so a shadow would gain little.
    """
    await cycle_versions.update_status(connection, spec.cycle, spec.version, "live")
    row = await cycle_versions.get_version(connection, spec.cycle, spec.version)
    assert row is not None
    await cycle_versions.update_progress(connection, row, "told_to", None)
    await accounts.enqueue_all(connection, "cycle_published")


def build_draft_version(
    spec: CycleSpec, text: str, author: str, per_second: int = 500
) -> VersionRow:
    """Return a draft version, ready to be stored."""
    return VersionRow(
        cycle=spec.cycle,
        version=spec.version,
        status="draft",
        spec=text,
        fingerprint=spec_fingerprint(spec),
        author=author,
        created_at=datetime.now(UTC),
        live_at=None,
        retired_at=None,
        filled_to=None,
        told_to=None,
        swept_to=None,
        per_second=per_second,
    )
