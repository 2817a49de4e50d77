"""Sweeps over contacts for plays and segments, and the ticks that start them."""

from collections.abc import Collection, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import SECOND
from services.orchestrator.domain.entry_cause import EntryCause

SWEEPS_CHANNEL = "orchestrator_sweeps"
"""Notified when sweeps are inserted or deleted."""
SEGMENT_PREFIX = "segment:"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EntryCause | None).decode


class SweepRow(msgspec.Struct, frozen=True):
    """A pass over the members of an account, or over all contacts, for a play or a segment.

    Without a `cause` each contact has its own entry cause. `event_id` is the id of the
    compelling event. In the sweep of a segment, `play` is `segment:` and its name, and `event_id`
    is the mark of its condition when the sweep began. `reached` is the last contact id done.
    """

    sweep_id: str
    workspace: WorkspaceId
    play: str
    account_id: str | None
    event_id: str
    cause: EntryCause | None
    reached: str = ""

    @property
    def segment(self) -> str | None:
        """Return the name of the segment, or None for a play's sweep."""
        return (
            self.play.removeprefix(SEGMENT_PREFIX) if self.play.startswith(SEGMENT_PREFIX) else None
        )


async def insert_sweeps(connection: Connection, sweeps: Sequence[SweepRow], now: int) -> None:
    """Insert sweeps; stored ones continue."""
    if not sweeps:
        return
    await connection.executemany(
        "INSERT INTO orchestrator.sweeps (sweep_id, workspace, play, account_id, event_id, "
        "occasion, begun_at, touched_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT DO NOTHING",
        [
            (
                s.sweep_id,
                s.workspace,
                s.play,
                s.account_id,
                s.event_id,
                _encode(s.cause).decode(),
                now,
            )
            for s in sweeps
        ],
    )
    await notify(connection, SWEEPS_CHANNEL)


async def lock_next(connection: Connection, paused: Collection[str], now: int) -> SweepRow | None:
    """Lock and return the next sweep, without those of paused plays and those that are throttled.

    Sweeps over accounts are short and go first; among the others, the one touched longest ago.
    """
    row = await connection.fetchrow(
        "SELECT sweep_id, workspace, play, account_id, event_id, occasion, reached "
        "FROM orchestrator.sweeps "
        "WHERE NOT (workspace || ':' || play = ANY($1::text[])) AND next_at <= $2 "
        "ORDER BY account_id IS NULL, touched_at LIMIT 1 FOR UPDATE SKIP LOCKED",
        list(paused),
        now,
    )
    return (
        SweepRow(row[0], row[1], row[2], row[3], row[4], _decode(row[5]), row[6]) if row else None
    )


async def get_seconds_until_next(
    connection: Connection, paused: Collection[str], now: int
) -> float | None:
    """Return the seconds until the first sweep of a play that is not paused continues, or None."""
    next_at: int | None = await connection.fetchval(
        "SELECT min(next_at) FROM orchestrator.sweeps "
        "WHERE NOT (workspace || ':' || play = ANY($1::text[]))",
        list(paused),
    )
    return None if next_at is None else (next_at - now) / SECOND


async def get_seconds_until_tick(connection: Connection, now: int) -> float | None:
    """Return the seconds until the next future tick, or None.

    A tick in the past waits for the end of a sweep, which notifies SWEEPS_CHANNEL.
    """
    next_at: int | None = await connection.fetchval(
        "SELECT min(next_at) FROM orchestrator.ticks WHERE next_at > $1", now
    )
    return None if next_at is None else (next_at - now) / SECOND


async def list_next_contacts(
    connection: Connection, sweep: SweepRow, limit: int
) -> list[ContactId]:
    """Return the next contacts of a sweep, in order of their ids."""
    all_contacts = "scoring.contact_profiles c WHERE c.workspace = $1"
    members = (
        "scoring.account_members m JOIN scoring.contact_profiles c USING (contact_id) "
        "WHERE c.workspace = $1 AND m.account_id = $4"
    )
    rows = await connection.fetch(
        f"SELECT c.contact_id FROM {members if sweep.account_id else all_contacts} "
        "AND c.contact_id > $2 "
        "AND c.merged_into IS NULL ORDER BY c.contact_id LIMIT $3",
        *(sweep.workspace, sweep.reached, limit),
        *([sweep.account_id] if sweep.account_id else []),
    )
    return [r[0] for r in rows]


async def update_reached(
    connection: Connection, sweep: SweepRow, reached: str, entered: int, now: int, next_at: int = 0
) -> None:
    """Store the progress of a sweep; it continues at `next_at` (µs UTC)."""
    await connection.execute(
        "UPDATE orchestrator.sweeps SET reached = $2, entered = entered + $3, touched_at = $4, "
        "next_at = $5 "
        "WHERE sweep_id = $1",
        sweep.sweep_id,
        reached,
        entered,
        now,
        next_at,
    )


async def delete_sweep(connection: Connection, sweep: SweepRow) -> None:
    """Delete a completed sweep."""
    await connection.execute("DELETE FROM orchestrator.sweeps WHERE sweep_id = $1", sweep.sweep_id)
    await notify(connection, SWEEPS_CHANNEL)


async def delete_event_sweeps(connection: Connection, event_id: str) -> None:
    """Delete the sweeps of a compelling event."""
    await connection.execute("DELETE FROM orchestrator.sweeps WHERE event_id = $1", event_id)


async def update_tick_if_due(
    connection: Connection, key: tuple[str, str, str], first_at: int, now: int, next_at: int
) -> int | None:
    """Count the tick of a (workspace, play, slot) if it is due and the play has no sweep.

    Return the number of earlier ticks, or None if it is not counted. The next tick is due at
    `next_at`; a new slot is due at `first_at` (µs UTC).
    """
    await connection.execute(
        "INSERT INTO orchestrator.ticks (workspace, play, slot, next_at) "
        "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        *key,
        first_at,
    )
    count: int | None = await connection.fetchval(
        "UPDATE orchestrator.ticks t SET next_at = $5, count = count + 1 "
        "WHERE (workspace, play, slot) = ($1, $2, $3) "
        "AND next_at <= $4 AND NOT EXISTS (SELECT FROM orchestrator.sweeps s "
        "WHERE (s.workspace, s.play) = ($1, $2)) "
        "RETURNING count - 1",
        *key,
        now,
        next_at,
    )
    return count
