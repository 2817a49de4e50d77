"""Invariants of any run: pure rows by identifiers, and sequences of published changes."""

from typing import Any

import msgspec

from libs.common.db.connection import connect
from libs.common.kafka.topic_reader import read_all as messages
from libs.common.messages import StageChange, event_type_of
from services.scoring.domain.move import decode_move
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry
from services.scoring.repository import replay_source, schedule
from services.scoring.repository.replay_source import Identifiers

Pure = dict[tuple[Identifiers, str], tuple[bytes, list[bytes]]]


async def pure_rows(database: str, partitions: int) -> tuple[Pure, int]:
    """Return the stored pure rows by (identifiers, cycle), and their frontier."""
    connection = await connect(database, application="test")
    try:
        async with connection.transaction(isolation="repeatable_read"):
            names = await replay_source.get_identifiers(connection)
            live = {
                c.engine.fold: c.engine.name
                for c in await DatabaseCycleRegistry().get_active_cycles(connection)
                if c.live
            }
            rows = await replay_source.get_pure_rows(connection, live)
            frontier = await schedule.get_frontier(connection, partitions)
    finally:
        await connection.close()
    assert frontier is not None
    return {
        (names[contact], cycle): (row.state, row.moves) for (contact, cycle), row in rows.items()
    }, frontier


def rows_until(pure: Pure, frontier: int) -> Pure:
    """Return the rows without the timed moves after `frontier`."""

    def is_due(raw: bytes) -> bool:
        move = decode_move(raw)
        return not move.timed or move.at <= frontier

    return {key: (state, [m for m in moves if is_due(m)]) for key, (state, moves) in pure.items()}


async def check_published_changes(bootstrap_servers: str, database: str) -> dict[str, int]:
    """Check the stage changes on the topic; return the number of changes by direction.

    Duplicates are dropped by id. Then `sequence` has no gap, each change starts at the stage of the
    one before it, and the last one is the publication's.
    """
    last: dict[str, StageChange] = {}
    counts: dict[str, int] = {}
    seen: set[str] = set()
    for record in await messages(bootstrap_servers, "stage-changes"):
        if event_type_of(record.headers) != StageChange.KIND:
            continue
        change = msgspec.json.decode(record.value or b"", type=StageChange)
        if change.id in seen:
            continue
        seen.add(change.id)
        before = last.get(change.contact_id)
        assert change.sequence == (before.sequence if before else 0) + 1, change
        assert change.stage.from_ == (before.stage.to if before else None), change
        last[change.contact_id] = change
        counts[change.direction] = counts.get(change.direction, 0) + 1
    connection = await connect(database, application="test")
    try:
        rows: list[Any] = await connection.fetch(
            "SELECT contact_id, sequence, stage FROM scoring.publications"
        )
    finally:
        await connection.close()
    assert {r[0]: (r[1], r[2]) for r in rows} == {
        c: (e.sequence, e.stage.to) for c, e in last.items()
    }
    return counts
