"""Outbox rows that the broker refused: look at them, send one again, or let the rows behind it pass.

While a refused row waits, later rows of its key wait too, so that readers see no gap. A skipped row stays in the table:
its readers miss it, and the operator can still show what it was.
"""

from typing import Literal

import msgspec

from libs.common.db.connection import Connection
from libs.common.errors import NotFound

Schema = Literal["scoring", "orchestrator"]


class QuarantinedRow(msgspec.Struct, frozen=True):
    """A row that the broker refused; `behind` counts the rows of its key that wait for it."""

    id: int
    topic: str
    key: str
    size: int
    error: str
    skipped: bool
    behind: int


async def list_quarantined(connection: Connection, schema: Schema) -> list[QuarantinedRow]:
    """Return the refused rows, oldest first."""
    rows = await connection.fetch(
        "SELECT o.id, o.topic, o.key, coalesce(length(o.value), 0), o.refused, o.skipped, "  # noqa: S608
        f"(SELECT count(*) FROM {schema}.outbox b WHERE b.shard = o.shard AND b.topic = o.topic AND b.key = o.key "
        f"AND b.id > o.id) FROM {schema}.outbox o WHERE o.refused IS NOT NULL ORDER BY o.id"
    )
    return [
        QuarantinedRow(r[0], r[1], r[2].decode("utf-8", "replace"), r[3], r[4], r[5], r[6])
        for r in rows
    ]


async def get_quarantined_value(connection: Connection, schema: Schema, row: int) -> bytes | None:
    """Return a refused row's value (None is a tombstone). Raises NotFound."""
    found = await connection.fetchrow(
        f"SELECT value FROM {schema}.outbox WHERE id = $1 AND refused IS NOT NULL",  # noqa: S608
        row,
    )
    if found is None:
        raise NotFound(f"{schema}'s outbox has no refused row {row}")
    content: bytes | None = found["value"]
    return content


async def update_for_resend(connection: Connection, schema: Schema, row: int) -> None:
    """Let the relay try a refused row again, after what made the broker refuse it is mended. Raises NotFound."""
    await _change(connection, schema, row, "refused = NULL, skipped = false")


async def update_as_skipped(connection: Connection, schema: Schema, row: int) -> None:
    """Let the rows behind a refused one pass: readers of its key will miss it. Raises NotFound."""
    await _change(connection, schema, row, "skipped = true")


async def _change(connection: Connection, schema: Schema, row: int, change: str) -> None:
    changed = await connection.fetchval(
        f"UPDATE {schema}.outbox SET {change} WHERE id = $1 AND refused IS NOT NULL RETURNING id",  # noqa: S608
        row,
    )
    if changed is None:
        raise NotFound(f"{schema}'s outbox has no refused row {row}")
    await connection.execute(f"NOTIFY {schema}_outbox")
