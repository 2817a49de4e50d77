"""Identifiers, devices' runs, contacts and their locks.

Locks are taken in the one order used everywhere: identifiers sorted by (type, value), then contacts sorted by id.
"""

from collections.abc import Iterable, Sequence

import msgspec

from libs.common.db.connection import Connection
from services.scoring.domain.assignment import DeviceClaims, DeviceKey, KnownIdentifiers
from services.scoring.domain.correction import correction_key
from services.scoring.domain.identity import Identifier, Key, OwnershipPeriod


class LockedContact(msgspec.Struct, frozen=True, gc=False):
    """A contact's row as locked."""

    workspace: str
    version: int
    identity_version: int
    merged_into: str | None
    profile: str | None


class MovedTouchpoint(msgspec.Struct, frozen=True):
    """A stored touchpoint that changes hands."""

    key: Key
    workspace: str
    old: str
    new: str


async def get_known(
    connection: Connection, identifiers: Iterable[tuple[str, Identifier]]
) -> tuple[KnownIdentifiers, dict[str, int]]:
    """Return what is stored of these identifiers, and the `identity_version` of each contact seen on the way.

    Versions are read before the runs: whoever commits a claim in between raises a version, so that the look behind the
    locks finds it. The other way round old runs could pass under a new version.
    """
    wanted = set(identifiers)
    contacts, versions = await get_contacts(connection, wanted)
    devices = await get_ownership(
        connection, [(w, value) for w, (kind, value) in wanted if kind == "anonymous_id"]
    )
    owners = {(place[0], run.owner) for place, found in devices.items() for run in found}
    if owners - contacts.keys():
        more, later = await get_contacts(connection, owners - contacts.keys())
        contacts |= more
        versions = later | versions
    return KnownIdentifiers(contacts, devices), versions


async def get_contacts(
    connection: Connection, wanted: set[tuple[str, Identifier]]
) -> tuple[dict[tuple[str, Identifier], str], dict[str, int]]:
    """Return the contacts of identifiers that have one, and each contact's `identity_version`."""
    rows = await connection.fetch(
        "SELECT i.workspace, i.type, i.value, i.contact_id, c.identity_version "
        "FROM unnest($1::text[], $2::text[], $3::text[]) AS w (workspace, type, value) "
        "JOIN scoring.identifiers i USING (workspace, type, value) JOIN scoring.contacts c USING (contact_id)",
        [w for w, _ in wanted],
        [i[0] for _, i in wanted],
        [i[1] for _, i in wanted],
    )
    contacts = {(r["workspace"], (r["type"], r["value"])): r["contact_id"] for r in rows}
    return contacts, {r["contact_id"]: r["identity_version"] for r in rows}


async def get_ownership(
    connection: Connection, places: Iterable[DeviceKey]
) -> dict[DeviceKey, list[OwnershipPeriod]]:
    """Return the runs of the devices that have any."""
    found: dict[DeviceKey, list[OwnershipPeriod]] = {}
    wanted = sorted(set(places))
    rows = await connection.fetch(
        "SELECT c.workspace, c.anonymous_id, c.occurred_at, c.source, c.message_id, c.owner_type, c.owner "
        "FROM unnest($1::text[], $2::text[]) AS w (workspace, anonymous_id) "
        "JOIN scoring.device_claims c USING (workspace, anonymous_id) ORDER BY 3, 4, 5",
        [w for w, _ in wanted],
        [a for _, a in wanted],
    )
    for workspace, anonymous_id, at, source, message_id, *owner in rows:
        found.setdefault((workspace, anonymous_id), []).append(
            OwnershipPeriod((at, source, message_id), (owner[0], owner[1]))
        )
    return found


async def get_claims(
    connection: Connection, places: Iterable[DeviceKey]
) -> dict[DeviceKey, DeviceClaims]:
    """Return every stored claim on these devices, less what corrections exclude, and those made or revoked by hand."""
    found = {place: DeviceClaims([], set()) for place in sorted(places)}
    if not found:
        return found
    workspaces, devices = [w for w, _ in found], [a for _, a in found]
    for workspace, device, at, source, message_id, *owner in await connection.fetch(
        "SELECT w.workspace, w.device, t.occurred_at, t.source, t.message_id, t.subject_type, t.subject "
        "FROM unnest($1::text[], $2::text[]) AS w (workspace, device) JOIN scoring.touchpoints t "
        "ON t.workspace = w.workspace AND t.anonymous_id = w.device AND t.subject IS NOT NULL "
        f"WHERE {_NOT_EXCLUDED} UNION "
        "SELECT w.workspace, w.device, t.occurred_at, t.source, t.message_id, t.subject_type, t.subject "
        "FROM unnest($1::text[], $2::text[]) AS w (workspace, device) JOIN scoring.touchpoints t "
        "ON t.workspace = w.workspace AND t.previous_id = w.device AND t.subject IS NOT NULL "
        f"WHERE {_NOT_EXCLUDED} ORDER BY 1, 2, 3, 4, 5",
        workspaces,
        devices,
    ):
        found[workspace, device].made.append(((at, source, message_id), (owner[0], owner[1])))
    for workspace, device, verdict, at, number, *owner in await connection.fetch(
        "SELECT DISTINCT ON (c.workspace, c.value, c.other_type, c.other_value) "
        "c.workspace, c.value, c.kind, c.occurred_at, c.id, c.other_type, c.other_value "
        "FROM unnest($1::text[], $2::text[]) AS w (workspace, device) JOIN scoring.corrections c "
        "ON (c.workspace, c.type, c.value) = (w.workspace, 'anonymous_id', w.device) AND c.kind IN ('link', 'unlink') "
        "ORDER BY c.workspace, c.value, c.other_type, c.other_value, c.id DESC",
        workspaces,
        devices,
    ):
        name = (owner[0], owner[1])
        if verdict == "link":
            found[workspace, device].made.append((correction_key(at, number), name))
        else:
            found[workspace, device].revoked.add(name)
    return found


_NOT_EXCLUDED = (
    "coalesce((SELECT c.kind FROM scoring.corrections c WHERE (c.workspace, c.occurred_at, c.source, c.message_id) "
    "= (t.workspace, t.occurred_at, t.source, t.message_id) AND c.kind IN ('exclude', 'include') "
    "ORDER BY c.id DESC LIMIT 1), 'include') = 'include'"
)
"""Whether the last correction about touchpoint `t`, if there is one, leaves it in."""


async def insert_identifiers(
    connection: Connection, new: dict[tuple[str, Identifier], str]
) -> bool:
    """Insert identifiers and their contacts; return False when somebody else has inserted one meanwhile."""
    if not new:
        return True
    rows = sorted((w, kind, value, contact) for (w, (kind, value)), contact in new.items())
    added = await connection.fetchval(
        "WITH added AS (INSERT INTO scoring.identifiers (workspace, type, value, contact_id, home) "
        "SELECT *, contact_id FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) "
        "AS w (workspace, type, value, contact_id) ON CONFLICT DO NOTHING RETURNING 1) "
        "SELECT count(*) FROM added",
        *(list(column) for column in zip(*rows, strict=True)),
    )
    contacts = sorted({(contact, w) for w, _, _, contact in rows})
    await connection.execute(
        "INSERT INTO scoring.contacts (contact_id, workspace) SELECT * FROM unnest($1::text[], $2::text[]) "
        "ON CONFLICT DO NOTHING",
        [contact for contact, _ in contacts],
        [w for _, w in contacts],
    )
    return bool(added == len(rows))


async def lock_contacts(
    connection: Connection, contacts: Iterable[str]
) -> dict[str, LockedContact]:
    """Lock the contacts' rows in id order and return them."""
    rows = await connection.fetch(
        "SELECT contact_id, workspace, version, identity_version, merged_into, profile FROM scoring.contacts "
        "WHERE contact_id = ANY($1::text[]) ORDER BY contact_id FOR UPDATE",
        sorted(set(contacts)),
    )
    return {r[0]: LockedContact(r[1], r[2], r[3], r[4], r[5]) for r in rows}


async def update_ownership(
    connection: Connection, changed: dict[DeviceKey, list[OwnershipPeriod]]
) -> None:
    """Store the new runs of the devices."""
    if not changed:
        return
    places = sorted(changed)
    await connection.execute(
        "DELETE FROM scoring.device_claims c USING unnest($1::text[], $2::text[]) AS w (workspace, anonymous_id) "
        "WHERE c.workspace = w.workspace AND c.anonymous_id = w.anonymous_id",
        [w for w, _ in places],
        [a for _, a in places],
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
        records=[(*place, *run.key, *run.owner) for place in places for run in changed[place]],
    )


async def list_anonymous_touchpoints(
    connection: Connection, place: DeviceKey
) -> list[tuple[Key, str]]:
    """Return (key, contact_id) of the stored touchpoints that have this device's id alone."""
    rows = await connection.fetch(
        "SELECT occurred_at, source, message_id, contact_id FROM scoring.touchpoints "
        "WHERE workspace = $1 AND anonymous_id = $2 AND subject IS NULL",
        *place,
    )
    return [((r[0], r[1], r[2]), r[3]) for r in rows]


async def list_misplaced_touchpoints(
    connection: Connection, contacts: Iterable[str]
) -> list[MovedTouchpoint]:
    """Return the touchpoints of the contacts whose own known identifier is another contact's."""
    rows = await connection.fetch(
        "SELECT t.occurred_at, t.source, t.message_id, t.workspace, t.contact_id, i.contact_id "
        "FROM scoring.touchpoints t JOIN scoring.identifiers i "
        "ON (i.workspace, i.type, i.value) = (t.workspace, t.subject_type, t.subject) "
        "WHERE t.contact_id = ANY($1::text[]) AND i.contact_id <> t.contact_id",
        sorted(contacts),
    )
    return [MovedTouchpoint((r[0], r[1], r[2]), r[3], r[4], r[5]) for r in rows]


async def list_unclaimed_touchpoints(
    connection: Connection, contacts: Iterable[str]
) -> list[tuple[DeviceKey, Key, str]]:
    """Return (device, key, contact_id) of the contacts' touchpoints that carry a device alone."""
    rows = await connection.fetch(
        "SELECT workspace, anonymous_id, occurred_at, source, message_id, contact_id FROM scoring.touchpoints "
        "WHERE contact_id = ANY($1::text[]) AND subject IS NULL AND anonymous_id IS NOT NULL",
        sorted(contacts),
    )
    return [((r[0], r[1]), (r[2], r[3], r[4]), r[5]) for r in rows]


async def count_touchpoints(connection: Connection, contacts: Iterable[str], limit: int) -> int:
    """Return how many touchpoints lie under the contacts, counted up to `limit`."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM (SELECT FROM scoring.touchpoints WHERE contact_id = ANY($1::text[]) LIMIT $2) t",
        sorted(contacts),
        limit,
    )
    return found


async def update_touchpoint_contacts(
    connection: Connection, moved: Sequence[MovedTouchpoint]
) -> None:
    """Give stored touchpoints to their new contacts."""
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


async def update_merged_contacts(connection: Connection, merged: dict[str, str]) -> None:
    """Let merged contacts redirect, and take away what belongs to a contact that still has touchpoints.

    What redirected to a merged contact redirects to its survivor from now on: no redirect leads to another.
    """
    for loser, survivor in sorted(merged.items()):
        await connection.execute(
            "UPDATE scoring.contacts SET merged_into = $2, profile = NULL WHERE contact_id = $1 OR merged_into = $1",
            loser,
            survivor,
        )
        for table in ("contact_states", "checkpoints", "timers", "refolds", "fold_errors"):
            await connection.execute(f"DELETE FROM scoring.{table} WHERE contact_id = $1", loser)
        await connection.execute(
            "UPDATE scoring.transitions SET known_to = now() WHERE contact_id = $1 AND known_to IS NULL",
            loser,
        )
