"""Touchpoints of a market or an account, as opposed to a contact (table `outside`).

They are in no fold; they are listed beside the journeys of the contacts that they concern.
"""

from collections.abc import Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from libs.common.messages import Touchpoint
from services.scoring.domain.account_membership import account_id_of
from services.scoring.repository.touchpoints import StoredTouchpoint

_decode = msgspec.json.Decoder(Touchpoint).decode
MAX_TOUCHPOINTS = 1_000


async def insert_touchpoints(connection: Connection, batch: Sequence[StoredTouchpoint]) -> int:
    """Insert touchpoints, return the number inserted; the first stored copy of each id wins."""
    if not batch:
        return 0
    rows = sorted(batch, key=_unique_key)
    touchpoints = [stored.touchpoint for stored in rows]
    inserted = await connection.fetch(
        "INSERT INTO scoring.outside "
        "(workspace, source, message_id, occurred_at, account_id, data) SELECT * FROM "
        "unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bytea[]) "
        "ON CONFLICT DO NOTHING RETURNING 1",
        [t.workspace for t in touchpoints],
        [t.source for t in touchpoints],
        [t.message_id for t in touchpoints],
        [t.occurred_at for t in touchpoints],
        [account_id_of(t) for t in touchpoints],
        [stored.raw for stored in rows],
    )
    return len(inserted)


async def list_for_contact_between(
    connection: Connection, contact: ContactId, since: int, until: int
) -> list[Touchpoint]:
    """Return the touchpoints of the contact's market and accounts between two instants, inclusive.

    In order of time; at most the last MAX_TOUCHPOINTS.
    """
    rows = await connection.fetch(
        "SELECT o.data FROM scoring.outside o JOIN scoring.contacts c USING (workspace) "
        "WHERE c.contact_id = $1 AND o.occurred_at BETWEEN $2 AND $3 "
        "AND (o.account_id IS NULL OR EXISTS (SELECT FROM scoring.memberships m "
        "WHERE m.contact_id = $1 AND m.account_id = o.account_id)) "
        "ORDER BY o.occurred_at DESC LIMIT $4",
        contact, since, until, MAX_TOUCHPOINTS,
    )  # fmt: skip
    return [_decode(r[0]) for r in reversed(rows)]


def _unique_key(stored: StoredTouchpoint) -> tuple[str, str, str]:
    touchpoint = stored.touchpoint
    return touchpoint.workspace, touchpoint.source, touchpoint.message_id
