"""A batch against what is known: who each touchpoint belongs to, who is new, which devices change hands."""

from collections.abc import Sequence

import msgspec

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

DeviceKey = tuple[str, str]
"""(workspace, anonymous_id)"""


class KnownIdentifiers(msgspec.Struct):
    """What PostgreSQL says of a batch's identifiers: their contacts, and the runs of their devices."""

    contacts: dict[tuple[str, Identifier], str]
    ownership: dict[DeviceKey, list[OwnershipPeriod]]


class DeviceClaims(msgspec.Struct):
    """Every stored claim on a device, those made by hand too, and the owners whose claims on it were revoked."""

    made: list[tuple[Key, Identifier]] = []
    revoked: set[Identifier] = set()

    def ownership(self, fresh: Sequence[tuple[Key, Identifier]] = ()) -> list[OwnershipPeriod]:
        """Return the device's runs with the fresh claims added."""
        return ownership_periods(
            (key, owner) for key, owner in (*self.made, *fresh) if owner not in self.revoked
        )


class Assignment(msgspec.Struct):
    """The decision for a batch.

    `contacts` runs along the touchpoints; `changed` are devices whose runs are new; `merged` maps an anonymous contact
    to the known person's contact that it merges into; `links` are those that the batch's touchpoints show.
    """

    contacts: list[str]
    new: dict[tuple[str, Identifier], str]
    changed: dict[DeviceKey, list[OwnershipPeriod]]
    merged: dict[str, str]
    links: set[tuple[str, Link]]


def contested_devices(
    batch: Sequence[TouchpointIdentity], known: KnownIdentifiers
) -> set[DeviceKey]:
    """Return the devices on which the batch has claims that are not those of its one owner of now.

    Only for these does a new claim's key matter, and every stored claim is needed to find the runs.
    """
    owners: dict[DeviceKey, set[Identifier]] = {}
    for who in batch:
        for device, name in who.claims:
            place = (who.workspace, device)
            if place not in owners:
                owners[place] = {run.owner for run in known.ownership.get(place, ())}
            owners[place].add(name)
    return {
        place for place, found in owners.items() if len(found) > 1 or not known.ownership.get(place)
    }


def assign_contacts(
    batch: Sequence[TouchpointIdentity],
    known: KnownIdentifiers,
    stored: dict[DeviceKey, DeviceClaims],
) -> Assignment:
    """Assign touchpoints; `stored` has the claims of the unsettled devices."""
    changed = _new_runs(batch, known, stored)
    found = Assignment([], {}, changed, {}, set())
    for place, runs in sorted(changed.items(), key=lambda item: item[1][0].key):
        if not known.ownership.get(place):
            _first_claim(place, runs[0].owner, known, found)
    for who in batch:
        runs = []
        if who.device is not None:
            place = (who.workspace, who.device)
            runs = changed.get(place) or known.ownership.get(place, [])
        contact = _contact(who.workspace, subject_identifier(who, runs), known, found)
        found.contacts.append(contact)
        for link in who.links:
            found.links.add((who.workspace, link))
            for name in (
                link
            ):  # an identifier that nobody had yet is the one's beside whom it is first seen
                if (who.workspace, name) not in known.contacts:
                    found.new.setdefault((who.workspace, name), contact)
    return found


def _new_runs(
    batch: Sequence[TouchpointIdentity],
    known: KnownIdentifiers,
    stored: dict[DeviceKey, DeviceClaims],
) -> dict[DeviceKey, list[OwnershipPeriod]]:
    fresh: dict[DeviceKey, list[tuple[Key, Identifier]]] = {}
    for who in batch:
        for device, name in who.claims:
            if (who.workspace, device) in stored:
                fresh.setdefault((who.workspace, device), []).append((who.key, name))
    changed = {}
    for place, claims in fresh.items():
        runs = stored[place].ownership(claims)
        if runs and runs != known.ownership.get(place, []):
            changed[place] = runs
    return changed


def _first_claim(
    place: DeviceKey, name: Identifier, known: KnownIdentifiers, found: Assignment
) -> None:
    """Give the device's contact to a person not known before; a known person's contact takes the device's in."""
    workspace, anonymous_id = place
    person = (workspace, name)
    device = (workspace, ("anonymous_id", anonymous_id))
    home = known.contacts.get(device) or new_contact_id(workspace, device[1])
    contact = known.contacts.get(person) or found.new.get(person)
    if contact is None:
        contact = found.new[person] = home
    if device not in known.contacts:
        # A claimed device always has a row, so that two first uses of it at once meet there.
        found.new[device] = contact
    elif home != contact:
        found.merged[home] = contact


def _contact(
    workspace: str, identifier: Identifier, known: KnownIdentifiers, found: Assignment
) -> str:
    place = (workspace, identifier)
    contact = known.contacts.get(place) or found.new.get(place)
    if contact is None:
        contact = found.new[place] = new_contact_id(workspace, identifier)
    return contact
