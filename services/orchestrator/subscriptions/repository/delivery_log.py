"""Delivery log: the attempts of each subscription."""

from collections.abc import Sequence

import msgspec

from libs.common.db.connection import Connection


class AttemptRow(msgspec.Struct, frozen=True):
    """One attempt of the delivery log; `at` in microseconds UTC."""

    message_id: str
    shard: int
    position: int
    kind: str
    key: str
    attempt: int
    at: int
    milliseconds: int
    status: int | None
    detail: str


async def insert_attempts(
    connection: Connection, subscription_id: str, attempts: Sequence[AttemptRow]
) -> None:
    """Append attempts to the delivery log."""
    await connection.copy_records_to_table(
        "subscription_attempts",
        schema_name="orchestrator",
        columns=["subscription_id", *AttemptRow.__struct_fields__],
        records=[(subscription_id, *msgspec.structs.astuple(attempt)) for attempt in attempts],
    )


async def list_attempts(
    connection: Connection, subscription_id: str, limit: int
) -> list[AttemptRow]:
    """Return the newest attempts, newest first."""
    rows = await connection.fetch(
        f"SELECT {', '.join(AttemptRow.__struct_fields__)} FROM orchestrator.subscription_attempts "
        "WHERE subscription_id = $1 ORDER BY id DESC LIMIT $2",
        subscription_id,
        limit,
    )
    return [AttemptRow(*r) for r in rows]


async def delete_old(connection: Connection, before: int) -> None:
    """Delete attempts made before an instant (µs UTC)."""
    await connection.execute("DELETE FROM orchestrator.subscription_attempts WHERE at < $1", before)
