"""After a claim came or went otherwise than by a batch: whose a device is now, and which touchpoints change hands.

The caller holds the locks of every contact concerned.
"""

from collections.abc import Iterable

from libs.common import ids
from libs.common.db.connection import Connection
from services.scoring.domain.assignment import DeviceKey
from services.scoring.domain.identity import Identifier, OwnershipPeriod, owner_at
from services.scoring.handlers.contact_resolution import ResolutionResult
from services.scoring.repository import identity, identity_links
from services.scoring.repository.identity import MovedTouchpoint


async def affected_contacts(connection: Connection, places: Iterable[DeviceKey]) -> set[str]:
    """Return the contacts that a change of these devices' claims may concern: their own, and everybody's who claims."""
    wanted = set(places)
    names = {(workspace, ("anonymous_id", device)) for workspace, device in wanted}
    for place, found in (await identity.get_ownership(connection, wanted)).items():
        names |= {(place[0], run.owner) for run in found}
    for place, claims in (await identity.get_claims(connection, wanted)).items():
        names |= {(place[0], name) for _, name in claims.made}
    contacts, _ = await identity.get_contacts(connection, names)
    touched = set(contacts.values())
    return touched | await identity_links.list_redirecting(connection, touched)


async def reassign_devices(connection: Connection, places: Iterable[DeviceKey]) -> ResolutionResult:
    """Bring the devices' runs in line with their stored claims and what corrections say of them."""
    wanted = set(places)
    before = await identity.get_ownership(connection, wanted)
    after = {
        place: claims.ownership()
        for place, claims in (await identity.get_claims(connection, wanted)).items()
    }
    changed = {place: runs for place, runs in after.items() if runs != before.get(place, [])}
    found = ResolutionResult()
    if not changed:
        return found
    await identity.update_ownership(connection, changed)
    for place, runs in sorted(changed.items()):
        await _change(connection, place, before.get(place, []), runs, found)
    await identity.update_merged_contacts(connection, found.merged)
    await identity.update_touchpoint_contacts(connection, found.moved)
    return found


async def _change(
    connection: Connection,
    place: DeviceKey,
    before: list[OwnershipPeriod],
    runs: list[OwnershipPeriod],
    found: ResolutionResult,
) -> None:
    workspace, device = place
    itself: Identifier = ("anonymous_id", device)
    names = {(workspace, name) for name in (itself, *(run.owner for run in (*before, *runs)))}
    contacts, _ = await identity.get_contacts(connection, names)
    home = contacts[workspace, itself]
    if not runs:
        home = await _of_its_own(connection, place, home)
    elif not before and home != contacts[workspace, runs[0].owner]:
        found.merged[home] = contacts[workspace, runs[0].owner]
    for key, old in await identity.list_anonymous_touchpoints(connection, place):
        name = owner_at(runs, key)
        new = contacts[workspace, name] if name else home
        if new != old:
            found.moved.append(MovedTouchpoint(key, workspace, old, new))
    found.contacts |= {home, *contacts.values()}


async def _of_its_own(connection: Connection, place: DeviceKey, home: str) -> str:
    """Return the contact of a device that nobody claims any more: its old one given back, or a new one if that is taken."""
    workspace, device = place
    if await identity_links.get_members(connection, [home]) or await _has_another(
        connection, place, home
    ):
        home = ids.derive_id("contact", workspace, "anonymous_id", device, "again", home)
        await identity_links.update_homes(connection, workspace, {("anonymous_id", device): home})
        await identity_links.update_contacts(
            connection, workspace, {("anonymous_id", device): home}
        )
    await identity_links.upsert_contacts(connection, workspace, [home])
    return home


async def _has_another(connection: Connection, place: DeviceKey, home: str) -> bool:
    """Return whether another device that nobody claims has this contact as its own: both were one person's at first."""
    others = (await identity_links.get_device_homes(connection, [home])).keys() - {place}
    return bool(others - (await identity.get_ownership(connection, others)).keys())
