"""What happened outside, to a market or an account: stored once, and shown beside the journeys that it falls into."""

from collections.abc import Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.messages import Touchpoint
from services.scoring.domain.account_membership import group_id_of
from services.scoring.repository.touchpoints import StoredTouchpoint

_decode = msgspec.json.Decoder(Touchpoint).decode
MAX_TOUCHPOINTS = 1_000


async def insert_touchpoints(connection: Connection, batch: Sequence[StoredTouchpoint]) -> int:
    """Store those that are not stored yet; return how many. The first stored copy wins."""
    if not batch:
        return 0
    rows = sorted(batch, key=_place)
    found = [one.touchpoint for one in rows]
    new = await connection.fetch(
        "INSERT INTO scoring.outside (workspace, source, message_id, occurred_at, account_id, data) "
        "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bytea[]) "
        "ON CONFLICT DO NOTHING RETURNING 1",
        [t.workspace for t in found],
        [t.source for t in found],
        [t.message_id for t in found],
        [t.occurred_at for t in found],
        [group_id_of(t) for t in found],
        [one.raw for one in rows],
    )
    return len(new)


async def list_overlapping(
    connection: Connection, contact: str, since: int, until: int
) -> list[Touchpoint]:
    """Return what happened in these instants to the contact's market, or to an account of theirs; the last MOST, in order."""
    rows = await connection.fetch(
        "SELECT o.data FROM scoring.outside o JOIN scoring.contacts c USING (workspace) "
        "WHERE c.contact_id = $1 AND o.occurred_at BETWEEN $2 AND $3 AND (o.account_id IS NULL OR EXISTS ("
        "SELECT FROM scoring.memberships m WHERE m.contact_id = $1 AND m.account_id = o.account_id)) "
        "ORDER BY o.occurred_at DESC LIMIT $4",
        contact, since, until, MAX_TOUCHPOINTS,
    )  # fmt: skip
    return [_decode(r[0]) for r in reversed(rows)]


def _place(one: StoredTouchpoint) -> tuple[str, str, str]:
    return one.touchpoint.workspace, one.touchpoint.source, one.touchpoint.message_id
