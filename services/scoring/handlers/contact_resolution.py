"""After a link came or went: who is one person now, and which touchpoints change hands.

The caller holds the locks of every contact concerned.
"""

from collections.abc import Iterable

import msgspec

from libs.common import ids
from libs.common.db.connection import Connection
from services.scoring.domain import identifier_components
from services.scoring.domain.identifier_components import ComponentAssignment, ComponentMember
from services.scoring.domain.identity import MAX_LINKS, Identifier, new_contact_id, owner_at
from services.scoring.repository import identity, identity_links
from services.scoring.repository.identity import MovedTouchpoint


class ResolutionResult(msgspec.Struct):
    """What a regrouping did."""

    moved: list[MovedTouchpoint] = []
    merged: dict[str, str] = {}
    """{contact that is nobody's any more: contact that it redirects to}"""
    contacts: set[str] = set()
    """Contacts that won or lost identifiers."""


async def resolve_contacts(connection: Connection, contacts: Iterable[str]) -> ResolutionResult:
    """Bring the contacts in line with the links of their identifiers."""
    found = ResolutionResult()
    concerned = set(contacts)
    for workspace, members in (await identity_links.get_members(connection, concerned)).items():
        mine = {member.contact for member in members}
        merged_in = await identity_links.list_redirecting(connection, mine)
        groups = await _group(connection, workspace, members, mine | merged_in)
        before = {member.identifier: member.contact for member in members}
        if all(groups.contacts[name] == contact for name, contact in before.items()):
            continue
        await _write(connection, workspace, groups, found, mine, mine | merged_in)
        await _move(connection, groups, mine | merged_in, found)
    return found


async def _group(
    connection: Connection, workspace: str, members: list[ComponentMember], free: set[str]
) -> ComponentAssignment:
    names = [member.identifier for member in members]
    found = identifier_components.effective_links(
        await identity_links.list_links_of(connection, workspace, names, MAX_LINKS)
    )
    given = await identity_links.list_existing(
        connection, [new_contact_id(workspace, name) for name in names]
    )

    def fresh(name: Identifier) -> str:
        contact, turn = new_contact_id(workspace, name), 0
        while contact in given:
            turn += 1
            contact = ids.derive_id("contact", workspace, *name, "again", str(turn), min(free))
        given.add(contact)
        return contact

    return identifier_components.assign_components(members, found, free, fresh)


async def _write(
    connection: Connection,
    workspace: str,
    groups: ComponentAssignment,
    found: ResolutionResult,
    contacts: set[str],
    free: set[str],
) -> None:
    await identity_links.update_contacts(connection, workspace, groups.contacts)
    await identity_links.update_homes(connection, workspace, groups.homes)
    chosen = set(groups.contacts.values())
    await identity_links.upsert_contacts(connection, workspace, chosen)
    redirects = groups.redirects | await _device_homes(
        connection, groups, free - chosen - groups.redirects.keys()
    )
    merged = {old: new for old, new in redirects.items() if old in contacts}
    await identity.update_merged_contacts(connection, redirects)
    found.merged |= merged
    found.contacts |= chosen | contacts


async def _device_homes(
    connection: Connection, groups: ComponentAssignment, contacts: set[str]
) -> dict[str, str]:
    """Return where contacts redirect that were a device's before its first claim: to whom that claim was for."""
    homes = await identity_links.get_device_homes(connection, contacts)
    runs = await identity.get_ownership(connection, homes)
    return {
        contact: groups.contacts[runs[place][0].owner]
        for place, contact in homes.items()
        if place in runs and runs[place][0].owner in groups.contacts
    }


async def _move(
    connection: Connection, groups: ComponentAssignment, contacts: set[str], found: ResolutionResult
) -> None:
    """Give the touchpoints of the contacts to their owners of now."""
    moved = await identity.list_misplaced_touchpoints(connection, contacts)
    anonymous = await identity.list_unclaimed_touchpoints(connection, contacts)
    runs = await identity.get_ownership(connection, {place for place, _, _ in anonymous})
    for place, key, old in anonymous:
        name = owner_at(runs.get(place, []), key)
        new = groups.contacts.get(name, old) if name else old
        if new != old:
            moved.append(MovedTouchpoint(key, place[0], old, new))
    await identity.update_touchpoint_contacts(connection, moved)
    found.moved += moved
