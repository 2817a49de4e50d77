"""Contact assignment of a batch: each touchpoint's contact, new contacts, device reassignments.

Pure: the stored identifiers and claims that it compares the batch with are arguments.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from libs.common.ids import ContactId, WorkspaceId
from services.scoring.domain.identity import (
    Identifier,
    Key,
    Link,
    OwnershipPeriod,
    TouchpointIdentity,
    new_contact_id,
    ownership_periods,
    subject_identifier,
)


class DeviceKey(NamedTuple):
    """A device of a workspace."""

    workspace: WorkspaceId
    anonymous_id: str


class KnownIdentifiers(msgspec.Struct):
    """The stored contacts and device ownership of a batch's identifiers.

    `contacts` maps (workspace, identifier) to a contact id; `ownership` maps a device to its
    ownership periods.
    """

    contacts: dict[tuple[WorkspaceId, Identifier], ContactId]
    ownership: dict[DeviceKey, list[OwnershipPeriod]]


class DeviceClaims(msgspec.Struct):
    """Every stored claim on one device, manual ones included; owners whose claims are revoked."""

    made: list[tuple[Key, Identifier]] = []
    revoked: set[Identifier] = set()

    def ownership(self, fresh: Sequence[tuple[Key, Identifier]] = ()) -> list[OwnershipPeriod]:
        """Return the ownership periods from stored and fresh claims, without revoked owners."""
        return ownership_periods(
            (key, owner) for key, owner in (*self.made, *fresh) if owner not in self.revoked
        )


class Assignment(msgspec.Struct):
    """The assignment of a batch.

    `contacts` has the contact id of each touchpoint, in the order of the batch; `new` the
    identifiers without a stored row; `changed` the devices whose ownership periods differ from the
    stored ones; `merged` maps an anonymous contact to the known contact that it merges into;
    `links` are the (workspace, link) pairs that the batch's touchpoints assert.
    """

    contacts: list[ContactId]
    new: dict[tuple[WorkspaceId, Identifier], ContactId]
    changed: dict[DeviceKey, list[OwnershipPeriod]]
    merged: dict[ContactId, ContactId]
    links: set[tuple[WorkspaceId, Link]]


def contested_devices(
    batch: Sequence[TouchpointIdentity], known: KnownIdentifiers
) -> set[DeviceKey]:
    """Return the devices that the batch claims and that have no owner yet, or more than one owner.

    The key of a new claim matters for these devices only, and their ownership periods need every
    stored claim. A claim by a device's only owner changes nothing.
    """
    owners: dict[DeviceKey, set[Identifier]] = {}
    for identity in batch:
        for device, owner in identity.claims:
            device_key = DeviceKey(identity.workspace, device)
            if device_key not in owners:
                owners[device_key] = {
                    period.owner for period in known.ownership.get(device_key, ())
                }
            owners[device_key].add(owner)
    return {
        device_key
        for device_key, claimants in owners.items()
        if len(claimants) > 1 or not known.ownership.get(device_key)
    }


def assign_contacts(
    batch: Sequence[TouchpointIdentity],
    known: KnownIdentifiers,
    stored: dict[DeviceKey, DeviceClaims],
) -> Assignment:
    """Assign each touchpoint of the batch to a contact.

    `stored` has every stored claim on the devices that `contested_devices` returns.
    """
    changed = _changed_ownership(batch, known, stored)
    assignment = Assignment([], {}, changed, {}, set())
    for device_key, periods in sorted(changed.items(), key=lambda item: item[1][0].key):
        if not known.ownership.get(device_key):
            _assign_first_claim(device_key, periods[0].owner, known, assignment)
    for identity in batch:
        periods = []
        if identity.device is not None:
            device_key = DeviceKey(identity.workspace, identity.device)
            periods = changed.get(device_key) or known.ownership.get(device_key, [])
        subject = subject_identifier(identity, periods)
        contact = _get_or_create_contact(identity.workspace, subject, known, assignment)
        assignment.contacts.append(contact)
        for link in identity.links:
            assignment.links.add((identity.workspace, link))
            # A linked identifier without a row goes to the contact of its first touchpoint.
            for identifier in link:
                if (identity.workspace, identifier) not in known.contacts:
                    assignment.new.setdefault((identity.workspace, identifier), contact)
    return assignment


def _changed_ownership(
    batch: Sequence[TouchpointIdentity],
    known: KnownIdentifiers,
    stored: dict[DeviceKey, DeviceClaims],
) -> dict[DeviceKey, list[OwnershipPeriod]]:
    fresh: dict[DeviceKey, list[tuple[Key, Identifier]]] = {}
    for identity in batch:
        for device, owner in identity.claims:
            if (identity.workspace, device) in stored:
                fresh.setdefault(DeviceKey(identity.workspace, device), []).append(
                    (identity.key, owner)
                )
    changed = {}
    for device_key, claims in fresh.items():
        periods = stored[device_key].ownership(claims)
        if periods and periods != known.ownership.get(device_key, []):
            changed[device_key] = periods
    return changed


def _assign_first_claim(
    device_key: DeviceKey, owner: Identifier, known: KnownIdentifiers, assignment: Assignment
) -> None:
    """Assign a device claimed for the first time.

    An owner without a contact takes over the device's contact, which is no merge. An owner with a
    contact keeps it, and the device's anonymous contact merges into it.
    """
    workspace, anonymous_id = device_key
    owner_row = (workspace, owner)
    device_row = (workspace, ("anonymous_id", anonymous_id))
    device_contact = known.contacts.get(device_row) or new_contact_id(workspace, device_row[1])
    contact = known.contacts.get(owner_row) or assignment.new.get(owner_row)
    if contact is None:
        contact = assignment.new[owner_row] = device_contact
    if device_row not in known.contacts:
        # A claimed device always has a row, on which two concurrent first uses of it conflict.
        assignment.new[device_row] = contact
    elif device_contact != contact:
        assignment.merged[device_contact] = contact


def _get_or_create_contact(
    workspace: WorkspaceId, identifier: Identifier, known: KnownIdentifiers, assignment: Assignment
) -> ContactId:
    row = (workspace, identifier)
    contact = known.contacts.get(row) or assignment.new.get(row)
    if contact is None:
        contact = assignment.new[row] = new_contact_id(workspace, identifier)
    return contact
