"""Marks on dead letters."""

from collections.abc import Sequence
from typing import Literal

from libs.common.db.connection import Connection

DeadLetterMark = Literal["replayed", "dropped"]
RecordPosition = tuple[str, int, int]
"""(topic, partition, offset)"""


async def get_marks(connection: Connection, topic: str) -> dict[RecordPosition, DeadLetterMark]:
    """Return the marks on a topic's letters."""
    rows = await connection.fetch(
        "SELECT topic, partition, kafka_offset, mark FROM ingest.dead_letter_marks WHERE topic = $1",
        topic,
    )
    return {(r[0], r[1], r[2]): r[3] for r in rows}


async def upsert_marks(
    connection: Connection,
    places: Sequence[RecordPosition],
    mark: DeadLetterMark,
    author: str,
    note: str,
) -> None:
    """Mark letters; a later mark replaces an earlier one."""
    await connection.executemany(
        "INSERT INTO ingest.dead_letter_marks (topic, partition, kafka_offset, mark, author, note) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (topic, partition, kafka_offset) DO UPDATE SET "
        "mark = excluded.mark, author = excluded.author, note = excluded.note, at = now()",
        [(*place, mark, author, note) for place in places],
    )
