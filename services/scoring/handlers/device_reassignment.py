"""Device ownership after corrections have changed claims: owners, merges and moved touchpoints.

The caller has locked every contact concerned.
"""

from collections.abc import Iterable

from libs.common import ids
from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from services.scoring.domain.assignment import DeviceKey
from services.scoring.domain.identity import Identifier, Key, OwnershipPeriod, owner_at
from services.scoring.handlers.contact_resolution import ResolutionResult
from services.scoring.repository import (
    identifier_contacts,
    identity,
    identity_links,
    touchpoint_reassignment,
)
from services.scoring.repository.touchpoint_reassignment import MovedTouchpoint


async def affected_contacts(connection: Connection, devices: Iterable[DeviceKey]) -> set[ContactId]:
    """Return the contacts that a change of these devices' claims can concern; locks nothing.

    These are the devices' own contacts, their owners and claimants, with the ids redirecting to
    them.
    """
    wanted = set(devices)
    identifiers = {(workspace, ("anonymous_id", device)) for workspace, device in wanted}
    for device, periods in (await identity.get_ownership(connection, wanted)).items():
        identifiers |= {(device[0], period.owner) for period in periods}
    for device, claims in (await identity.get_claims(connection, wanted)).items():
        identifiers |= {(device[0], claimant) for _, claimant in claims.made}
    contacts_by_identifier, _ = await identity.get_contacts(connection, identifiers)
    contacts = set(contacts_by_identifier.values())
    return contacts | await identifier_contacts.list_redirecting(connection, contacts)


async def reassign_devices(
    connection: Connection, devices: Iterable[DeviceKey]
) -> ResolutionResult:
    """Bring the devices' ownership periods in line with their stored claims and corrections.

    Writes in this order: ownership periods; per device its own contact, if no claim is left; then
    redirects of merged contacts with their fold data; then moved touchpoints.
    """
    wanted = set(devices)
    before = await identity.get_ownership(connection, wanted)
    after = {
        device: claims.ownership()
        for device, claims in (await identity.get_claims(connection, wanted)).items()
    }
    changed = {
        device: periods for device, periods in after.items() if periods != before.get(device, [])
    }
    result = ResolutionResult()
    if not changed:
        return result
    await identity.update_ownership(connection, changed)
    anonymous: dict[DeviceKey, list[tuple[Key, ContactId]]] = {}
    for device, key, contact in await touchpoint_reassignment.list_anonymous_touchpoints(
        connection, changed
    ):
        anonymous.setdefault(device, []).append((key, contact))
    for device, periods in sorted(changed.items()):
        await _reassign_device(
            connection,
            device,
            before.get(device, []),
            periods,
            anonymous.get(device, []),
            result,
        )
    await identity.update_merged_contacts(connection, result.merged)
    await touchpoint_reassignment.update_touchpoint_contacts(connection, result.moved)
    return result


async def _reassign_device(
    connection: Connection,
    device: DeviceKey,
    before: list[OwnershipPeriod],
    after: list[OwnershipPeriod],
    anonymous: list[tuple[Key, ContactId]],
    result: ResolutionResult,
) -> None:
    """Add the merge and the moved touchpoints of one device to the result."""
    workspace, anonymous_id = device
    own_identifier: Identifier = ("anonymous_id", anonymous_id)
    identifiers = {
        (workspace, identifier)
        for identifier in (own_identifier, *(period.owner for period in (*before, *after)))
    }
    contacts, _ = await identity.get_contacts(connection, identifiers)
    home = contacts[workspace, own_identifier]
    if not after:
        home = await _restore_own_contact(connection, device, home)
    elif not before and home != contacts[workspace, after[0].owner]:
        result.merged[home] = contacts[workspace, after[0].owner]
    for key, old in anonymous:
        owner = owner_at(after, key)
        new = contacts[workspace, owner] if owner else home
        if new != old:
            result.moved.append(MovedTouchpoint(key, workspace, old, new))
    result.contacts |= {home, *contacts.values()}


async def _restore_own_contact(
    connection: Connection, device: DeviceKey, home: ContactId
) -> ContactId:
    """Give an unclaimed device its own contact back and return the contact id.

    If the former contact belongs to known identifiers or to another unclaimed device, the device
    gets a new contact, whose id is derived from both.
    """
    workspace, anonymous_id = device
    if await identity_links.get_members(connection, [home]) or await _is_shared(
        connection, device, home
    ):
        home = ContactId(
            ids.derive_id("contact", workspace, "anonymous_id", anonymous_id, "again", home)
        )
        identifier: Identifier = ("anonymous_id", anonymous_id)
        await identifier_contacts.update_homes(connection, workspace, {identifier: home})
        await identifier_contacts.update_contacts(connection, workspace, {identifier: home})
    await identifier_contacts.upsert_contacts(connection, workspace, [home])
    return home


async def _is_shared(connection: Connection, device: DeviceKey, home: ContactId) -> bool:
    """Return whether another unclaimed device has this contact too: both had one first owner."""
    homes = await identifier_contacts.get_device_homes(connection, [home])
    other_devices = homes.keys() - {device}
    return bool(other_devices - (await identity.get_ownership(connection, other_devices)).keys())
