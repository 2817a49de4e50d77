"""Data about contacts that advertisers have received, by enrollment and ad audience."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from libs.common.db.connection import Connection


async def get_member_data(
    connection: Connection, enrollments: Collection[str]
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the data sent, or about to be sent, by (enrollment id, destination, audience)."""
    rows = await connection.fetch(
        "SELECT enrollment_id, destination, audience, told FROM orchestrator.audience_told "
        "WHERE enrollment_id = ANY($1::text[])",
        list(enrollments),
    )
    return {(r[0], r[1], r[2]): msgspec.json.decode(r[3]) for r in rows}


async def insert_member_data(
    connection: Connection, rows: Collection[tuple[str, str, str, Mapping[str, Any]]]
) -> None:
    """Insert (enrollment id, destination, audience, data) before it is sent; stored data stays."""
    await connection.executemany(
        "INSERT INTO orchestrator.audience_told VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        [(*key, msgspec.json.encode(data).decode()) for *key, data in rows],
    )
