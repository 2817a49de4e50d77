"""Identifiers, device claims, contacts and their locks.

Locks are taken in one order everywhere: identifiers sorted by (type, value), then contacts sorted
by id.
"""

from collections.abc import Iterable

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId
from services.scoring.domain.assignment import DeviceClaims, DeviceKey, KnownIdentifiers
from services.scoring.domain.correction import correction_key
from services.scoring.domain.identity import Identifier, OwnershipPeriod

WorkspaceIdentifier = tuple[WorkspaceId, Identifier]
"""(workspace, identifier)"""


class LockedContact(msgspec.Struct, frozen=True, gc=False):
    """A contact's row, as read under its lock."""

    workspace: WorkspaceId
    version: int
    identity_version: int
    merged_into: ContactId | None
    profile: str | None


async def get_known(
    connection: Connection, identifiers: Iterable[WorkspaceIdentifier]
) -> tuple[KnownIdentifiers, dict[ContactId, int]]:
    """Return the stored contacts and device ownership of these identifiers; locks nothing.

    The second result is the `identity_version` of every contact read. Versions are read before
    ownership periods: a claim committed in between raises a version, so the comparison under the
    locks detects it. In the reverse order, old periods could pass with a new version.
    """
    wanted = set(identifiers)
    contacts, versions = await get_contacts(connection, wanted)
    devices = await get_ownership(
        connection,
        [
            DeviceKey(workspace, value)
            for workspace, (kind, value) in wanted
            if kind == "anonymous_id"
        ],
    )
    owners = {
        (device[0], period.owner) for device, periods in devices.items() for period in periods
    }
    if owners - contacts.keys():
        owner_contacts, owner_versions = await get_contacts(connection, owners - contacts.keys())
        contacts |= owner_contacts
        versions = owner_versions | versions
    return KnownIdentifiers(contacts, devices), versions


async def get_contacts(
    connection: Connection, identifiers: set[WorkspaceIdentifier]
) -> tuple[dict[WorkspaceIdentifier, ContactId], dict[ContactId, int]]:
    """Return the contacts of the stored identifiers, and each contact's `identity_version`."""
    rows = await connection.fetch(
        "SELECT i.workspace, i.type, i.value, i.contact_id, c.identity_version "
        "FROM unnest($1::text[], $2::text[], $3::text[]) AS w (workspace, type, value) "
        "JOIN scoring.identifiers i USING (workspace, type, value) "
        "JOIN scoring.contacts c USING (contact_id)",
        [workspace for workspace, _ in identifiers],
        [identifier[0] for _, identifier in identifiers],
        [identifier[1] for _, identifier in identifiers],
    )
    contacts = {(r["workspace"], (r["type"], r["value"])): r["contact_id"] for r in rows}
    return contacts, {r["contact_id"]: r["identity_version"] for r in rows}


async def get_ownership(
    connection: Connection, devices: Iterable[DeviceKey]
) -> dict[DeviceKey, list[OwnershipPeriod]]:
    """Return the ownership periods, in key order, of the devices that have any."""
    ownership: dict[DeviceKey, list[OwnershipPeriod]] = {}
    wanted = sorted(set(devices))
    rows = await connection.fetch(
        "SELECT c.workspace, c.anonymous_id, c.occurred_at, c.source, c.message_id, "
        "c.owner_type, c.owner "
        "FROM unnest($1::text[], $2::text[]) AS w (workspace, anonymous_id) "
        "JOIN scoring.device_claims c USING (workspace, anonymous_id) ORDER BY 3, 4, 5",
        [workspace for workspace, _ in wanted],
        [anonymous_id for _, anonymous_id in wanted],
    )
    for workspace, anonymous_id, at, source, message_id, *owner in rows:
        ownership.setdefault(DeviceKey(workspace, anonymous_id), []).append(
            OwnershipPeriod((at, source, message_id), (owner[0], owner[1]))
        )
    return ownership


async def get_claims(
    connection: Connection, devices: Iterable[DeviceKey]
) -> dict[DeviceKey, DeviceClaims]:
    """Return every stored claim on each of these devices, from touchpoints and from corrections.

    Touchpoints excluded by a correction make no claim; the last `link` or `unlink` correction about
    a device and an owner makes or revokes one.
    """
    claims = {device: DeviceClaims([], set()) for device in sorted(devices)}
    if not claims:
        return claims
    workspaces, anonymous_ids = [w for w, _ in claims], [a for _, a in claims]
    for workspace, device, at, source, message_id, *owner in await connection.fetch(
        "SELECT w.workspace, w.device, t.occurred_at, t.source, t.message_id, "
        "t.subject_type, t.subject "
        "FROM unnest($1::text[], $2::text[]) AS w (workspace, device) JOIN scoring.touchpoints t "
        "ON t.workspace = w.workspace AND t.anonymous_id = w.device AND t.subject IS NOT NULL "
        f"WHERE {_NOT_EXCLUDED} UNION "
        "SELECT w.workspace, w.device, t.occurred_at, t.source, t.message_id, "
        "t.subject_type, t.subject "
        "FROM unnest($1::text[], $2::text[]) AS w (workspace, device) JOIN scoring.touchpoints t "
        "ON t.workspace = w.workspace AND t.previous_id = w.device AND t.subject IS NOT NULL "
        f"WHERE {_NOT_EXCLUDED} ORDER BY 1, 2, 3, 4, 5",
        workspaces,
        anonymous_ids,
    ):
        claims[DeviceKey(workspace, device)].made.append(
            ((at, source, message_id), (owner[0], owner[1]))
        )
    for workspace, device, verdict, at, number, *owner in await connection.fetch(
        "SELECT DISTINCT ON (c.workspace, c.value, c.other_type, c.other_value) "
        "c.workspace, c.value, c.kind, c.occurred_at, c.id, c.other_type, c.other_value "
        "FROM unnest($1::text[], $2::text[]) AS w (workspace, device) JOIN scoring.corrections c "
        "ON (c.workspace, c.type, c.value) = (w.workspace, 'anonymous_id', w.device) "
        "AND c.kind IN ('link', 'unlink') "
        "ORDER BY c.workspace, c.value, c.other_type, c.other_value, c.id DESC",
        workspaces,
        anonymous_ids,
    ):
        identifier = (owner[0], owner[1])
        if verdict == "link":
            claims[DeviceKey(workspace, device)].made.append(
                (correction_key(at, number), identifier)
            )
        else:
            claims[DeviceKey(workspace, device)].revoked.add(identifier)
    return claims


_NOT_EXCLUDED = (
    "coalesce((SELECT c.kind FROM scoring.corrections c "
    "WHERE (c.workspace, c.occurred_at, c.source, c.message_id) "
    "= (t.workspace, t.occurred_at, t.source, t.message_id) AND c.kind IN ('exclude', 'include') "
    "ORDER BY c.id DESC LIMIT 1), 'include') = 'include'"
)
"""SQL condition: no correction excludes touchpoint `t`, or a later one includes it again."""


async def insert_identifiers(
    connection: Connection, new: dict[WorkspaceIdentifier, ContactId]
) -> bool:
    """Insert identifiers, sorted, then their contacts; rows that exist are left alone.

    Waits for a concurrent transaction that inserts the same identifier. Returns False if another
    transaction has inserted one of them.
    """
    if not new:
        return True
    rows = sorted(
        (workspace, kind, value, contact) for (workspace, (kind, value)), contact in new.items()
    )
    added = await connection.fetchval(
        "WITH added AS (INSERT INTO scoring.identifiers (workspace, type, value, contact_id, home) "
        "SELECT *, contact_id FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) "
        "AS w (workspace, type, value, contact_id) ON CONFLICT DO NOTHING RETURNING 1) "
        "SELECT count(*) FROM added",
        *(list(column) for column in zip(*rows, strict=True)),
    )
    contacts = sorted({(contact, workspace) for workspace, _, _, contact in rows})
    await connection.execute(
        "INSERT INTO scoring.contacts (contact_id, workspace) "
        "SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING",
        [contact for contact, _ in contacts],
        [workspace for _, workspace in contacts],
    )
    return bool(added == len(rows))


async def lock_contacts(
    connection: Connection, contacts: Iterable[ContactId]
) -> dict[ContactId, LockedContact]:
    """Lock the contacts' rows in id order and return them, merged ones included."""
    rows = await connection.fetch(
        "SELECT contact_id, workspace, version, identity_version, merged_into, profile "
        "FROM scoring.contacts WHERE contact_id = ANY($1::text[]) ORDER BY contact_id FOR UPDATE",
        sorted(set(contacts)),
    )
    return {r[0]: LockedContact(r[1], r[2], r[3], r[4], r[5]) for r in rows}


async def update_ownership(
    connection: Connection, ownership: dict[DeviceKey, list[OwnershipPeriod]]
) -> None:
    """Replace the stored ownership periods of the devices (delete, then COPY)."""
    if not ownership:
        return
    devices = sorted(ownership)
    await connection.execute(
        "DELETE FROM scoring.device_claims c "
        "USING unnest($1::text[], $2::text[]) AS w (workspace, anonymous_id) "
        "WHERE c.workspace = w.workspace AND c.anonymous_id = w.anonymous_id",
        [workspace for workspace, _ in devices],
        [anonymous_id for _, anonymous_id in devices],
    )
    await connection.copy_records_to_table(
        "device_claims",
        schema_name="scoring",
        columns=[
            "workspace",
            "anonymous_id",
            "occurred_at",
            "source",
            "message_id",
            "owner_type",
            "owner",
        ],
        records=[
            (*device, *period.key, *period.owner)
            for device in devices
            for period in ownership[device]
        ],
    )


async def update_merged_contacts(
    connection: Connection, merged: dict[ContactId, ContactId]
) -> None:
    """Redirect merged contacts and delete their fold data; `merged` is {merged id: surviving id}.

    Ids that redirected to a merged contact now redirect to the survivor, so a redirect never leads
    to another one. Deleted are states, snapshots, timers, queue entries and fold errors; open
    transitions are closed. The caller has locked all of these contacts.
    """
    if not merged:
        return
    losers = sorted(merged)
    await connection.execute(
        "WITH merged (loser, survivor) AS (SELECT * FROM unnest($1::text[], $2::text[])), "
        "redirects AS (SELECT loser AS contact_id, survivor FROM merged UNION ALL "
        "SELECT c.contact_id, m.survivor FROM merged m JOIN scoring.contacts c "
        "ON c.merged_into = m.loser WHERE c.contact_id <> ALL ($1::text[])) "
        "UPDATE scoring.contacts c SET merged_into = r.survivor, profile = NULL "
        "FROM redirects r WHERE c.contact_id = r.contact_id",
        losers,
        [_survivor(loser, merged) for loser in losers],
    )
    for table in ("contact_states", "checkpoints", "timers", "refolds", "fold_errors"):
        await connection.execute(
            f"DELETE FROM scoring.{table} WHERE contact_id = ANY($1::text[])", losers
        )
    await connection.execute(
        "UPDATE scoring.transitions SET known_to = now() "
        "WHERE contact_id = ANY($1::text[]) AND known_to IS NULL",
        losers,
    )


def _survivor(loser: ContactId, merged: dict[ContactId, ContactId]) -> ContactId:
    survivor = merged[loser]
    while survivor in merged:
        survivor = merged[survivor]
    return survivor
