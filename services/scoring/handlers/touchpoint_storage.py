"""Storage of a batch under its contacts: identities resolved, contacts locked, repeats dropped.

Locks are taken in the one order used everywhere: the fence (by the caller), hashes sorted,
identifiers sorted, contacts sorted. Identities that changed between their read and the locks are
read again under the locks. If the assignment of the batch differs then, it rolls back to a
savepoint, which frees its row locks but those of the hashes, and resolves again.
"""

from collections.abc import Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.errors import Unavailable
from libs.common.ids import ContactId
from libs.common.messages import Touchpoint
from libs.common.observability import metrics
from services.scoring.domain.assignment import (
    Assignment,
    KnownIdentifiers,
    assign_contacts,
    contested_devices,
)
from services.scoring.domain.identity import MAX_LINKS, TouchpointIdentity, owner_at
from services.scoring.handlers.contact_reservations import BatchReservation
from services.scoring.handlers.contact_resolution import ResolutionResult, resolve_contacts
from services.scoring.repository import (
    fold_states,
    identifier_contacts,
    identity,
    identity_links,
    touchpoint_reassignment,
    touchpoints,
)
from services.scoring.repository.fold_states import RefoldRequest
from services.scoring.repository.identity import LockedContact, WorkspaceIdentifier
from services.scoring.repository.touchpoint_reassignment import MovedTouchpoint
from services.scoring.repository.touchpoints import StoredTouchpoint

MAX_ATTEMPTS = 30
MOVE_BATCH = 1_000
"""Touchpoints; contacts with more are merged by a job, outside the stream's transaction."""


class StoredBatch(msgspec.Struct):
    """A batch whose touchpoints are stored under locked contacts."""

    fresh: list[Touchpoint]
    owners: list[ContactId]
    """The contact of each fresh touchpoint."""
    locked: dict[ContactId, LockedContact]
    identity_changed: set[ContactId]
    """Contacts that won or lost an identifier or touchpoints."""
    moved: list[MovedTouchpoint]
    merged: dict[ContactId, ContactId]
    """{merged contact id: surviving id}"""
    resolved_contacts: set[ContactId]
    """Contacts whose known identifiers have changed."""
    refolding: dict[ContactId, RefoldRequest]
    """Locked contacts in the re-fold queue."""
    repeated: int


class _RetryBatchError(Exception):
    """Identities read before the locks have changed."""


async def store_batch(
    connection: Connection, batch: Sequence[StoredTouchpoint], reservation: BatchReservation
) -> StoredBatch:
    """Store a batch under its contacts, each touchpoint once; the first stored copy wins.

    Raises Unavailable if identities have changed under MAX_ATTEMPTS attempts.
    """
    by_hash: dict[bytes, StoredTouchpoint] = {}
    for stored in batch:
        by_hash.setdefault(stored.hash, stored)
    # Once, before the savepoint: a repeat must change no identity, and a second attempt repeats it.
    new_hashes = await touchpoints.insert_hashes(connection, list(by_hash.values()))
    fresh = [stored for digest, stored in by_hash.items() if digest in new_hashes]
    for _ in range(MAX_ATTEMPTS):
        savepoint = connection.transaction()
        await savepoint.start()
        try:
            stored_batch = await _attempt(connection, fresh, reservation)
        except _RetryBatchError:
            await savepoint.rollback()
            reservation.release()
        except touchpoints.UniqueViolation:
            await savepoint.rollback()
            reservation.release()
            copies = await touchpoints.get_older_copies(connection, fresh)
            fresh = [stored for stored in fresh if stored.hash not in copies]
        else:
            await savepoint.commit()
            stored_batch.repeated = len(batch) - len(stored_batch.fresh)
            return stored_batch
    raise Unavailable(f"identities changed {MAX_ATTEMPTS} times under one batch")


async def _attempt(
    connection: Connection, batch: Sequence[StoredTouchpoint], reservation: BatchReservation
) -> StoredBatch:
    """Resolve, lock, compare and store once.

    In order: read identifiers, claims and links; insert new identifiers and contacts; reserve and
    lock the contacts; read claims and links again; look up the re-fold queue; write device
    ownership, moved touchpoints, merges, touchpoints and links. Raises _RetryBatchError.
    """
    metrics.IDENTITY_RESOLUTIONS.inc()
    identities = [stored.identity for stored in batch]
    stored_identifiers, versions = await identity.get_known(connection, _identifiers_of(identities))
    devices = contested_devices(identities, stored_identifiers)
    claims = await identity.get_claims(connection, devices)
    assignment = assign_contacts(identities, stored_identifiers, claims)
    unseen_links = await identity_links.list_unseen(connection, assignment.links)
    if not await identity.insert_identifiers(connection, assignment.new):
        raise _RetryBatchError
    joined = await _list_joined(connection, unseen_links)
    concerned = _concerned_contacts(assignment, stored_identifiers) | joined
    if assignment.merged:
        concerned |= await identifier_contacts.list_redirecting(connection, assignment.merged)
    await reservation.reserve({*assignment.contacts, *concerned})
    locked = await identity.lock_contacts(connection, {*assignment.contacts, *concerned})
    changed = _changed_contacts(locked, versions)
    if changed:
        stored_identifiers = await _read_again(connection, stored_identifiers, changed)
    if (
        any(locked[contact].merged_into is not None for contact in assignment.contacts)
        or not changed.isdisjoint((*assignment.merged, *assignment.merged.values()))
        or contested_devices(identities, stored_identifiers) != devices
        or await identity.get_claims(connection, devices) != claims
        or (changed and assign_contacts(identities, stored_identifiers, claims) != assignment)
        or not _concerned_contacts(assignment, stored_identifiers) <= locked.keys()
        or await _list_joined(connection, unseen_links) != joined
    ):
        raise _RetryBatchError
    refolding = await fold_states.get_queued_refolds(connection, locked)
    moved = await _list_moved(connection, assignment, stored_identifiers)
    await identity.update_ownership(connection, assignment.changed)
    await touchpoint_reassignment.update_touchpoint_contacts(connection, moved)
    await identity.update_merged_contacts(connection, assignment.merged)
    owners = assignment.contacts
    await touchpoints.insert_touchpoints(connection, batch, owners)
    resolution = ResolutionResult()
    if unseen_links:
        resolution = await _write_links(connection, unseen_links, joined)
        locked |= await identity.lock_contacts(connection, resolution.contacts - locked.keys())
        owners = _owners_after(resolution, batch, owners)
    return StoredBatch(
        [stored.touchpoint for stored in batch],
        owners,
        locked,
        concerned | set(assignment.new.values()) | resolution.contacts,
        moved + resolution.moved,
        {old: resolution.merged.get(new, new) for old, new in assignment.merged.items()}
        | resolution.merged,
        resolution.contacts,
        refolding,
        0,
    )


async def _list_joined(
    connection: Connection, links: Sequence[identity_links.WorkspaceLink]
) -> set[ContactId]:
    """Return the contacts that new links can merge."""
    if not links:
        return set()
    return await identity_links.list_affected_contacts(connection, links, MAX_LINKS)


async def _write_links(
    connection: Connection, links: Sequence[identity_links.WorkspaceLink], joined: set[ContactId]
) -> ResolutionResult:
    """Store new links and merge the contacts, or defer the merge of long histories to a job."""
    await identity_links.upsert_links(connection, links, "seen in a touchpoint", seen=True)
    count = await touchpoint_reassignment.count_touchpoints(connection, joined, MOVE_BATCH + 1)
    if count > MOVE_BATCH:
        await identity_links.insert_deferred(connection, links)
        return ResolutionResult()
    return await resolve_contacts(connection, joined)


def _identifiers_of(identities: Sequence[TouchpointIdentity]) -> set[WorkspaceIdentifier]:
    identifiers: set[WorkspaceIdentifier] = set()
    for touchpoint in identities:
        workspace = touchpoint.workspace
        identifiers.update((workspace, identifier) for identifier in touchpoint.names)
        for device in (touchpoint.device, touchpoint.previous):
            if device is not None:
                identifiers.add((workspace, ("anonymous_id", device)))
        for link in touchpoint.links:
            identifiers.update((workspace, identifier) for identifier in link)
        if touchpoint.device is None and not touchpoint.names:
            message = f"{touchpoint.key[1]}:{touchpoint.key[2]}"
            identifiers.add((workspace, ("message", message)))
    return identifiers


def _concerned_contacts(
    assignment: Assignment, stored_identifiers: KnownIdentifiers
) -> set[ContactId]:
    """Return the contacts that a change of device ownership concerns.

    These are the device's own contact and the owners before and after.
    """
    contacts = {**stored_identifiers.contacts, **assignment.new}
    concerned = set(assignment.merged) | set(assignment.merged.values())
    for device, periods in assignment.changed.items():
        home = contacts.get((device[0], ("anonymous_id", device[1])))
        if home is None:
            # The device's first claim was committed between two of the reads.
            raise _RetryBatchError
        concerned.add(home)
        for period in [*periods, *stored_identifiers.ownership.get(device, [])]:
            contact = contacts.get((device[0], period.owner))
            if contact is not None:
                concerned.add(contact)
    return concerned


def _changed_contacts(
    locked: dict[ContactId, LockedContact], versions: dict[ContactId, int]
) -> set[ContactId]:
    """Return the locked contacts whose identity has changed since their versions were read."""
    return {
        contact
        for contact, row in locked.items()
        if contact in versions and versions[contact] != row.identity_version
    }


async def _read_again(
    connection: Connection, known: KnownIdentifiers, changed: set[ContactId]
) -> KnownIdentifiers:
    """Return the identifiers with those of changed contacts read again, under the locks.

    Most changes of a contact, such as a new device, leave this batch's touchpoints where they were:
    the batch goes on then, instead of resolving everything again.
    """
    outdated = {identifier for identifier, contact in known.contacts.items() if contact in changed}
    outdated_devices = {
        device
        for device, periods in known.ownership.items()
        if (device.workspace, ("anonymous_id", device.anonymous_id)) in outdated
        or any((device.workspace, period.owner) in outdated for period in periods)
    }
    outdated |= {(workspace, ("anonymous_id", device)) for workspace, device in outdated_devices}
    current, _ = await identity.get_known(connection, outdated)
    return KnownIdentifiers(
        {i: c for i, c in known.contacts.items() if i not in outdated} | current.contacts,
        {d: p for d, p in known.ownership.items() if d not in outdated_devices} | current.ownership,
    )


async def _list_moved(
    connection: Connection, assignment: Assignment, stored_identifiers: KnownIdentifiers
) -> list[MovedTouchpoint]:
    """Return the stored touchpoints of changed devices that belong to another contact now."""
    contacts = {**stored_identifiers.contacts, **assignment.new}
    anonymous = await touchpoint_reassignment.list_anonymous_touchpoints(
        connection, assignment.changed
    )
    moved = []
    for device, key, old in anonymous:
        owner = owner_at(assignment.changed[device], key)
        new = contacts[device.workspace, owner] if owner else old
        if new != old:
            moved.append(MovedTouchpoint(key, device.workspace, old, new))
    return moved


def _owners_after(
    resolution: ResolutionResult, fresh: Sequence[StoredTouchpoint], owners: Sequence[ContactId]
) -> list[ContactId]:
    """Return the contacts of the fresh touchpoints after the identity resolution."""
    moved = {(m.workspace, m.key): m.new for m in resolution.moved}
    return [
        moved.get(
            (stored.identity.workspace, stored.identity.key),
            resolution.merged.get(contact, contact),
        )
        for stored, contact in zip(fresh, owners, strict=True)
    ]
