"""The contact of each identifier, changed when an identity correction or a merge moves it."""

from collections.abc import Iterable

from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId
from services.scoring.domain.assignment import DeviceKey
from services.scoring.domain.identity import Identifier


async def update_contacts(
    connection: Connection, workspace: WorkspaceId, contacts: dict[Identifier, ContactId]
) -> None:
    """Assign identifiers to their contacts."""
    identifiers = sorted(contacts)
    await connection.execute(
        "UPDATE scoring.identifiers i SET contact_id = w.contact_id "
        "FROM unnest($2::text[], $3::text[], $4::text[]) AS w (type, value, contact_id) "
        "WHERE i.workspace = $1 AND (i.type, i.value) = (w.type, w.value) "
        "AND i.contact_id <> w.contact_id",
        workspace,
        [kind for kind, _ in identifiers],
        [value for _, value in identifiers],
        [contacts[identifier] for identifier in identifiers],
    )


async def update_homes(
    connection: Connection, workspace: WorkspaceId, homes: dict[Identifier, ContactId]
) -> None:
    """Set the home contact (the first contact) of identifiers."""
    for (kind, value), home in sorted(homes.items()):
        await connection.execute(
            "UPDATE scoring.identifiers SET home = $4 "
            "WHERE (workspace, type, value) = ($1, $2, $3)",
            workspace,
            kind,
            value,
            home,
        )


async def list_redirecting(connection: Connection, contacts: Iterable[ContactId]) -> set[ContactId]:
    """Return the contacts that are merged into one of these."""
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.contacts WHERE merged_into = ANY($1::text[])",
        sorted(contacts),
    )
    return {r[0] for r in rows}


async def get_device_homes(
    connection: Connection, contacts: Iterable[ContactId]
) -> dict[DeviceKey, ContactId]:
    """Return {device: contact} of the devices whose own identifier belongs to one of the contacts.

    A device's own contact is the contact of its touchpoints while no identifier claims it.
    """
    rows = await connection.fetch(
        "SELECT workspace, value, contact_id FROM scoring.identifiers "
        "WHERE contact_id = ANY($1::text[]) AND type = 'anonymous_id'",
        sorted(contacts),
    )
    return {DeviceKey(r[0], r[1]): r[2] for r in rows}


async def list_existing(connection: Connection, contacts: Iterable[ContactId]) -> set[ContactId]:
    """Return the contact ids that exist, merged ones included."""
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.contacts WHERE contact_id = ANY($1::text[])",
        sorted(contacts),
    )
    return {r[0] for r in rows}


async def upsert_contacts(
    connection: Connection, workspace: WorkspaceId, contacts: Iterable[ContactId]
) -> None:
    """Insert contacts; a merged contact stops redirecting and gets its id back."""
    await connection.execute(
        "INSERT INTO scoring.contacts (contact_id, workspace) "
        "SELECT id, $1 FROM unnest($2::text[]) AS w (id) "
        "ON CONFLICT (contact_id) DO UPDATE SET merged_into = NULL "
        "WHERE contacts.merged_into IS NOT NULL",
        workspace,
        sorted(contacts),
    )
