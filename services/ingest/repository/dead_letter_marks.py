"""Marks of dead letters: replayed or dropped."""

from collections.abc import Sequence
from typing import Literal

from libs.common.db.connection import Connection
from services.ingest.domain.dead_letter import RecordPosition

DeadLetterMark = Literal["replayed", "dropped"]


async def get_marks(connection: Connection, topic: str) -> dict[RecordPosition, DeadLetterMark]:
    """Return the marks of a topic's dead letters."""
    rows = await connection.fetch(
        "SELECT topic, partition, kafka_offset, mark "
        "FROM ingest.dead_letter_marks WHERE topic = $1",
        topic,
    )
    return {RecordPosition(*position): mark for *position, mark in rows}


async def upsert_marks(
    connection: Connection,
    positions: Sequence[RecordPosition],
    mark: DeadLetterMark,
    author: str,
    note: str,
) -> None:
    """Mark dead letters; a later mark replaces an earlier one."""
    await connection.executemany(
        "INSERT INTO ingest.dead_letter_marks (topic, partition, kafka_offset, mark, author, note) "
        "VALUES ($1, $2, $3, $4, $5, $6) "
        "ON CONFLICT (topic, partition, kafka_offset) DO UPDATE SET "
        "mark = excluded.mark, author = excluded.author, note = excluded.note, at = now()",
        [(*position, mark, author, note) for position in positions],
    )
