"""Identity resolution after links have changed: contacts, merges and moved touchpoints.

The caller has locked every contact concerned.
"""

from collections.abc import Iterable

import msgspec

from libs.common import ids
from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId
from services.scoring.domain import identifier_components
from services.scoring.domain.identifier_components import ComponentAssignment, ComponentMember
from services.scoring.domain.identity import MAX_LINKS, Identifier, new_contact_id, owner_at
from services.scoring.repository import (
    identifier_contacts,
    identity,
    identity_links,
    touchpoint_reassignment,
)
from services.scoring.repository.touchpoint_reassignment import MovedTouchpoint


class ResolutionResult(msgspec.Struct):
    """Changes made by an identity resolution."""

    moved: list[MovedTouchpoint] = []
    merged: dict[ContactId, ContactId] = {}
    """{merged contact id: surviving id}"""
    contacts: set[ContactId] = set()
    """Contacts that won or lost identifiers."""


async def resolve_contacts(
    connection: Connection, contacts: Iterable[ContactId]
) -> ResolutionResult:
    """Bring identifiers and touchpoints of the contacts in line with the active links.

    Per workspace with a change, writes in this order: identifiers, their home contacts, contacts,
    redirects of merged contacts with their fold data, then moved touchpoints.
    """
    result = ResolutionResult()
    members_by_workspace = await identity_links.get_members(connection, set(contacts))
    for workspace, members in members_by_workspace.items():
        current = {member.contact for member in members}
        available = current | await identifier_contacts.list_redirecting(connection, current)
        assignment = await _assign(connection, workspace, members, available)
        if all(assignment.contacts[m.identifier] == m.contact for m in members):
            continue
        await _write_assignment(connection, workspace, assignment, result, current, available)
        await _move_touchpoints(connection, assignment, available, result)
    return result


async def _assign(
    connection: Connection,
    workspace: WorkspaceId,
    members: list[ComponentMember],
    available: set[ContactId],
) -> ComponentAssignment:
    """Assign a contact to each connected component; `available` are the ids that may be used."""
    identifiers = [member.identifier for member in members]
    links = identifier_components.effective_links(
        await identity_links.list_links_of(connection, workspace, identifiers, MAX_LINKS)
    )
    existing = await identifier_contacts.list_existing(
        connection, [new_contact_id(workspace, identifier) for identifier in identifiers]
    )

    def create_id(identifier: Identifier) -> ContactId:
        """Return an id that no contact has: the identifier's own, else one derived from it."""
        contact, attempt = new_contact_id(workspace, identifier), 0
        while contact in existing:
            attempt += 1
            contact = ContactId(
                ids.derive_id(
                    "contact", workspace, *identifier, "again", str(attempt), min(available)
                )
            )
        existing.add(contact)
        return contact

    return identifier_components.assign_components(members, links, available, create_id)


async def _write_assignment(
    connection: Connection,
    workspace: WorkspaceId,
    assignment: ComponentAssignment,
    result: ResolutionResult,
    current: set[ContactId],
    available: set[ContactId],
) -> None:
    await identifier_contacts.update_contacts(connection, workspace, assignment.contacts)
    await identifier_contacts.update_homes(connection, workspace, assignment.homes)
    assigned = set(assignment.contacts.values())
    await identifier_contacts.upsert_contacts(connection, workspace, assigned)
    redirects = assignment.redirects | await _get_device_redirects(
        connection, assignment, available - assigned - assignment.redirects.keys()
    )
    merged = {old: new for old, new in redirects.items() if old in current}
    await identity.update_merged_contacts(connection, redirects)
    result.merged |= merged
    result.contacts |= assigned | current


async def _get_device_redirects(
    connection: Connection, assignment: ComponentAssignment, contacts: set[ContactId]
) -> dict[ContactId, ContactId]:
    """Return {contact: surviving id} of contacts that were a device's before its first claim.

    The survivor is the contact of the device's first owner.
    """
    homes = await identifier_contacts.get_device_homes(connection, contacts)
    ownership = await identity.get_ownership(connection, homes)
    return {
        contact: assignment.contacts[ownership[device][0].owner]
        for device, contact in homes.items()
        if device in ownership and ownership[device][0].owner in assignment.contacts
    }


async def _move_touchpoints(
    connection: Connection,
    assignment: ComponentAssignment,
    contacts: set[ContactId],
    result: ResolutionResult,
) -> None:
    """Move the stored touchpoints of the contacts to their present owners."""
    moved = await touchpoint_reassignment.list_misplaced_touchpoints(connection, contacts)
    by_device = await touchpoint_reassignment.list_device_touchpoints(connection, contacts)
    ownership = await identity.get_ownership(connection, {device for device, _, _ in by_device})
    for device, key, old in by_device:
        owner = owner_at(ownership.get(device, []), key)
        new = assignment.contacts.get(owner, old) if owner else old
        if new != old:
            moved.append(MovedTouchpoint(key, device[0], old, new))
    await touchpoint_reassignment.update_touchpoint_contacts(connection, moved)
    result.moved += moved
