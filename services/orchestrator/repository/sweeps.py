"""Sweeps: an event about many, and how far through them its play has come."""

from collections.abc import Collection, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.messages import CompellingEvent

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CompellingEvent).decode


class Sweep(msgspec.Struct, frozen=True):
    """A play on its way to everybody whom an event concerns: the members of an account, or all."""

    sweep_id: str
    workspace: str
    play: str
    account_id: str | None
    event: CompellingEvent
    reached: str = ""


async def begin(connection: Connection, sweeps: Sequence[Sweep], now: int) -> None:
    """Begin sweeps; one that is known goes on as it does."""
    await connection.executemany(
        "INSERT INTO orchestrator.sweeps (sweep_id, workspace, play, account_id, event_id, event, begun_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        [
            (s.sweep_id, s.workspace, s.play, s.account_id, s.event.event_id, _encode(s.event).decode(), now)
            for s in sweeps
        ],
    )


async def one(connection: Connection, paused: Collection[str]) -> Sweep | None:
    """Return a sweep that nobody else is at; it is held until the transaction ends. Those of paused plays wait."""
    row = await connection.fetchrow(
        "SELECT sweep_id, workspace, play, account_id, event, reached FROM orchestrator.sweeps "
        "WHERE NOT (workspace || ':' || play = ANY($1::text[])) ORDER BY begun_at LIMIT 1 FOR UPDATE SKIP LOCKED",
        list(paused),
    )
    return Sweep(row[0], row[1], row[2], row[3], _decode(row[4]), row[5]) if row else None


async def next_contacts(connection: Connection, sweep: Sweep, limit: int) -> list[str]:
    """Return the next contacts whom it may concern, by id."""
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.contact_profiles c WHERE workspace = $1 AND contact_id > $2 AND merged_into IS NULL "
        "AND ($3::text IS NULL OR EXISTS (SELECT FROM scoring.account_members m WHERE m.contact_id = c.contact_id "
        "AND m.account_id = $3)) ORDER BY contact_id LIMIT $4",
        sweep.workspace,
        sweep.reached,
        sweep.account_id,
        limit,
    )
    return [r[0] for r in rows]


async def reach(connection: Connection, sweep: Sweep, to: str, entered: int) -> None:
    """Note how far a sweep has come."""
    await connection.execute(
        "UPDATE orchestrator.sweeps SET reached = $2, entered = entered + $3 WHERE sweep_id = $1",
        sweep.sweep_id,
        to,
        entered,
    )


async def end(connection: Connection, ids: Sequence[str]) -> None:
    """Forget sweeps, because they are through or their event is withdrawn."""
    await connection.execute("DELETE FROM orchestrator.sweeps WHERE sweep_id = ANY($1::text[])", list(ids))


async def of_events(connection: Connection, events: Sequence[str]) -> list[str]:
    """Return the sweeps of events."""
    rows = await connection.fetch(
        "SELECT sweep_id FROM orchestrator.sweeps WHERE event_id = ANY($1::text[])", list(events)
    )
    return [r[0] for r in rows]
