"""Stored touchpoints, and the hashes that identify repeated messages (table `seen`)."""

from collections.abc import Sequence

import asyncpg
import msgspec

from libs.common import ids
from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from libs.common.instants import DAY
from libs.common.messages import Touchpoint
from services.scoring.domain.account_membership import account_id_of, is_membership_event
from services.scoring.domain.identity import TouchpointIdentity, extract_identity

COLUMNS = [
    "workspace", "occurred_at", "source", "message_id", "contact_id", "subject_type", "subject",
    "anonymous_id", "previous_id", "account_id", "received_at", "data",
]  # fmt: skip
SEEN_DAYS = 30
"""Retention of the hashes, in days of receipt."""


class StoredTouchpoint(msgspec.Struct, frozen=True, gc=False):
    """A touchpoint ready to be stored: decoded, as received, its identity and its hash."""

    touchpoint: Touchpoint
    raw: bytes
    identity: TouchpointIdentity
    hash: bytes
    """16 bytes of (workspace, source, message_id); equal for a repeat."""
    trace: bytes | None = None
    """The W3C traceparent of the record, if any."""


def prepare_touchpoint(
    touchpoint: Touchpoint, raw: bytes, trace: bytes | None = None
) -> StoredTouchpoint:
    """Return the touchpoint with its identity and hash."""
    digest = ids.hash_parts(touchpoint.workspace, touchpoint.source, touchpoint.message_id)
    return StoredTouchpoint(touchpoint, raw, extract_identity(touchpoint), digest, trace)


async def insert_hashes(connection: Connection, batch: Sequence[StoredTouchpoint]) -> set[bytes]:
    """Insert the hashes of a batch, sorted, and return the new ones.

    A hash that is not returned was stored in the last SEEN_DAYS. Waits for a concurrent transaction
    that inserts the same hash.
    """
    rows = sorted((stored.hash, stored.touchpoint.received_at // DAY) for stored in batch)
    inserted = await connection.fetch(
        "INSERT INTO scoring.seen (hash, day) SELECT * FROM unnest($1::bytea[], $2::int[]) "
        "ON CONFLICT DO NOTHING RETURNING hash",
        [digest for digest, _ in rows],
        [day for _, day in rows],
    )
    return {r[0] for r in inserted}


async def get_older_copies(connection: Connection, batch: Sequence[StoredTouchpoint]) -> set[bytes]:
    """Return the hashes of touchpoints that are stored already, at any age, by the unique key."""
    rows = await connection.fetch(
        "SELECT t.workspace, t.source, t.message_id FROM scoring.touchpoints t "
        "JOIN unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) "
        "AS w (workspace, occurred_at, source, message_id) "
        "USING (workspace, occurred_at, source, message_id)",
        [s.touchpoint.workspace for s in batch],
        [s.touchpoint.occurred_at for s in batch],
        [s.touchpoint.source for s in batch],
        [s.touchpoint.message_id for s in batch],
    )
    return {ids.hash_parts(r[0], r[1], r[2]) for r in rows}


async def insert_touchpoints(
    connection: Connection, batch: Sequence[StoredTouchpoint], contacts: Sequence[ContactId]
) -> None:
    """COPY new touchpoints; `contacts` has the contact id of each.

    Raises UniqueViolation if one of them is stored already.
    """
    records = []
    for stored, contact_id in zip(batch, contacts, strict=True):
        t, identity = stored.touchpoint, stored.identity
        kind, value = identity.names[0] if identity.names else (None, None)
        records.append(
            (
                t.workspace, t.occurred_at, t.source, t.message_id, contact_id, kind, value,
                identity.device, identity.previous,
                account_id_of(t) if is_membership_event(t) else None, t.received_at,
                stored.raw.decode(),
            )
        )  # fmt: skip
    await connection.copy_records_to_table(
        "touchpoints", schema_name="scoring", columns=COLUMNS, records=records
    )


async def delete_seen_hashes(connection: Connection, now: int) -> None:
    """Delete hashes older than SEEN_DAYS; older repeats are caught by the unique key alone."""
    await connection.execute("DELETE FROM scoring.seen WHERE day < $1", now // DAY - SEEN_DAYS)


UniqueViolation = asyncpg.UniqueViolationError
