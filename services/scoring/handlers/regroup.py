"""After a link came or went: who is one person now, and which touchpoints change hands.

The caller holds the locks of every contact concerned.
"""

from collections.abc import Iterable

import msgspec

from libs.common import ids
from libs.common.db.connection import Connection
from services.scoring.domain import grouping
from services.scoring.domain.grouping import Grouping, Member
from services.scoring.domain.identity import MAX_LINKS, Identifier, new_contact_id, owner
from services.scoring.repository import identity, links
from services.scoring.repository.identity import Moved


class Regrouped(msgspec.Struct):
    """What a regrouping did."""

    moved: list[Moved] = []
    merged: dict[str, str] = {}
    """{contact that is nobody's any more: contact that it redirects to}"""
    changed: set[str] = set()
    """Contacts that won or lost identifiers."""


async def regroup(connection: Connection, contacts: Iterable[str]) -> Regrouped:
    """Bring the contacts in line with the links of their identifiers."""
    found = Regrouped()
    concerned = set(contacts)
    for workspace, members in (await links.members(connection, concerned)).items():
        mine = {member.contact for member in members}
        merged_in = await links.redirecting(connection, mine)
        groups = await _group(connection, workspace, members, mine | merged_in)
        before = {member.identifier: member.contact for member in members}
        if all(groups.contacts[name] == contact for name, contact in before.items()):
            continue
        await _write(connection, workspace, groups, found, mine, mine | merged_in)
        await _move(connection, groups, mine | merged_in, found)
    return found


async def _group(connection: Connection, workspace: str, members: list[Member], free: set[str]) -> Grouping:
    names = [member.identifier for member in members]
    found = grouping.links_that_count(await links.of_members(connection, workspace, names, MAX_LINKS))
    given = await links.existing(connection, [new_contact_id(workspace, name) for name in names])

    def fresh(name: Identifier) -> str:
        contact, turn = new_contact_id(workspace, name), 0
        while contact in given:
            turn += 1
            contact = ids.derive_id("contact", workspace, *name, "again", str(turn), min(free))
        given.add(contact)
        return contact

    return grouping.group(members, found, free, fresh)


async def _write(
    connection: Connection, workspace: str, groups: Grouping, found: Regrouped, contacts: set[str], free: set[str]
) -> None:
    await links.regroup(connection, workspace, groups.contacts)
    await links.rehome(connection, workspace, groups.homes)
    chosen = set(groups.contacts.values())
    await links.revive(connection, workspace, chosen)
    redirects = groups.redirects | await _device_homes(connection, groups, free - chosen - groups.redirects.keys())
    merged = {old: new for old, new in redirects.items() if old in contacts}
    await identity.merge(connection, redirects)
    found.merged |= merged
    found.changed |= chosen | contacts


async def _device_homes(connection: Connection, groups: Grouping, contacts: set[str]) -> dict[str, str]:
    """Return where contacts redirect that were a device's before its first claim: to whom that claim was for."""
    homes = await links.device_homes(connection, contacts)
    runs = await identity.runs(connection, homes)
    return {
        contact: groups.contacts[runs[place][0].owner]
        for place, contact in homes.items()
        if place in runs and runs[place][0].owner in groups.contacts
    }


async def _move(connection: Connection, groups: Grouping, contacts: set[str], found: Regrouped) -> None:
    """Give the touchpoints of the contacts to their owners of now."""
    moved = await identity.misplaced(connection, contacts)
    anonymous = await identity.unclaimed(connection, contacts)
    runs = await identity.runs(connection, {place for place, _, _ in anonymous})
    for place, key, old in anonymous:
        name = owner(runs.get(place, []), key)
        new = groups.contacts.get(name, old) if name else old
        if new != old:
            moved.append(Moved(key, place[0], old, new))
    await identity.move(connection, moved)
    found.moved += moved
