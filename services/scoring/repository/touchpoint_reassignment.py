"""Stored touchpoints that an identity change assigns to another contact."""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId
from services.scoring.domain.assignment import DeviceKey
from services.scoring.domain.identity import Key


class MovedTouchpoint(msgspec.Struct, frozen=True):
    """A stored touchpoint that moves from one contact to another."""

    key: Key
    workspace: WorkspaceId
    old: ContactId
    new: ContactId


async def list_anonymous_touchpoints(
    connection: Connection, devices: Collection[DeviceKey]
) -> list[tuple[DeviceKey, Key, ContactId]]:
    """Return (device, key, contact id) of the devices' touchpoints without a known identifier."""
    if not devices:
        return []
    rows = await connection.fetch(
        "SELECT t.workspace, t.anonymous_id, t.occurred_at, t.source, t.message_id, t.contact_id "
        "FROM unnest($1::text[], $2::text[]) AS w (workspace, device) JOIN scoring.touchpoints t "
        "ON t.workspace = w.workspace AND t.anonymous_id = w.device WHERE t.subject IS NULL",
        [workspace for workspace, _ in devices],
        [device for _, device in devices],
    )
    return [(DeviceKey(r[0], r[1]), (r[2], r[3], r[4]), r[5]) for r in rows]


async def list_misplaced_touchpoints(
    connection: Connection, contacts: Iterable[ContactId]
) -> list[MovedTouchpoint]:
    """Return the contacts' touchpoints whose known identifier belongs to another contact."""
    rows = await connection.fetch(
        "SELECT t.occurred_at, t.source, t.message_id, t.workspace, t.contact_id, i.contact_id "
        "FROM scoring.touchpoints t JOIN scoring.identifiers i "
        "ON (i.workspace, i.type, i.value) = (t.workspace, t.subject_type, t.subject) "
        "WHERE t.contact_id = ANY($1::text[]) AND i.contact_id <> t.contact_id",
        sorted(contacts),
    )
    return [MovedTouchpoint((r[0], r[1], r[2]), r[3], r[4], r[5]) for r in rows]


async def list_device_touchpoints(
    connection: Connection, contacts: Iterable[ContactId]
) -> list[tuple[DeviceKey, Key, ContactId]]:
    """Return (device, key, contact id) of the contacts' touchpoints without a known identifier."""
    rows = await connection.fetch(
        "SELECT workspace, anonymous_id, occurred_at, source, message_id, contact_id "
        "FROM scoring.touchpoints WHERE contact_id = ANY($1::text[]) "
        "AND subject IS NULL AND anonymous_id IS NOT NULL",
        sorted(contacts),
    )
    return [(DeviceKey(r[0], r[1]), (r[2], r[3], r[4]), r[5]) for r in rows]


async def count_touchpoints(
    connection: Connection, contacts: Iterable[ContactId], limit: int
) -> int:
    """Return the number of the contacts' touchpoints, counted up to `limit`."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM (SELECT FROM scoring.touchpoints "
        "WHERE contact_id = ANY($1::text[]) LIMIT $2) t",
        sorted(contacts),
        limit,
    )
    return count


async def update_touchpoint_contacts(
    connection: Connection, moved: Sequence[MovedTouchpoint]
) -> None:
    """Assign moved touchpoints to their new contacts."""
    if not moved:
        return
    await connection.execute(
        "UPDATE scoring.touchpoints t SET contact_id = m.contact_id "
        "FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[]) "
        "AS m (workspace, occurred_at, source, message_id, contact_id) "
        "WHERE (t.workspace, t.occurred_at, t.source, t.message_id) "
        "= (m.workspace, m.occurred_at, m.source, m.message_id)",
        [m.workspace for m in moved],
        [m.key[0] for m in moved],
        [m.key[1] for m in moved],
        [m.key[2] for m in moved],
        [m.new for m in moved],
    )
