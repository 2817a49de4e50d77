"""Marks on dead letters."""

from collections.abc import Sequence
from typing import Literal

from libs.common.db.connection import Connection

Mark = Literal["replayed", "dropped"]
Place = tuple[str, int, int]
"""(topic, partition, offset)"""


async def marks(connection: Connection, topic: str) -> dict[Place, Mark]:
    """Return the marks on a topic's letters."""
    rows = await connection.fetch(
        "SELECT topic, partition, kafka_offset, mark FROM ingest.dead_letter_marks WHERE topic = $1", topic
    )
    return {(r[0], r[1], r[2]): r[3] for r in rows}


async def put(connection: Connection, places: Sequence[Place], mark: Mark, author: str, note: str) -> None:
    """Mark letters; a later mark replaces an earlier one."""
    await connection.executemany(
        "INSERT INTO ingest.dead_letter_marks (topic, partition, kafka_offset, mark, author, note) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (topic, partition, kafka_offset) DO UPDATE SET "
        "mark = excluded.mark, author = excluded.author, note = excluded.note, at = now()",
        [(*place, mark, author, note) for place in places],
    )
