"""Whose touchpoints are these? The part of a batch's transaction that locks, links, drops repeats and stores.

Locks in the one order used everywhere: the fence (before this), identifiers sorted, contacts sorted. What was read before
the locks is looked at again behind them; if it moved, the batch goes back to a savepoint, which frees its row locks, and
resolves again.
"""

from collections.abc import Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.errors import Unavailable
from libs.common.messages import Touchpoint
from services.scoring.domain.assignment import (
    Assignment,
    KnownIdentifiers,
    assign_contacts,
    contested_devices,
)
from services.scoring.domain.identity import MAX_LINKS, Identifier, TouchpointIdentity, owner_at
from services.scoring.handlers.contact_resolution import ResolutionResult, resolve_contacts
from services.scoring.repository import fold_states, identity, identity_links, touchpoints
from services.scoring.repository.fold_states import RefoldRequest
from services.scoring.repository.identity import LockedContact, MovedTouchpoint
from services.scoring.repository.touchpoints import StoredTouchpoint

MAX_ATTEMPTS = 30
MOVE_BATCH = 1_000
"""People with more touchpoints than this are joined by a job, and not in the stream's transaction."""


class StoredBatch(msgspec.Struct):
    """A batch whose touchpoints are stored under locked contacts."""

    fresh: list[Touchpoint]
    owners: list[str]
    """The contact of each fresh touchpoint."""
    locked: dict[str, LockedContact]
    identity_changed: set[str]
    """Contacts that won or lost an identifier, or touchpoints."""
    moved: list[MovedTouchpoint]
    merged: dict[str, str]
    resolved_contacts: set[str]
    """Contacts whose known identifiers are not those of before."""
    refolding: dict[str, RefoldRequest]
    repeated: int


class _AgainError(Exception):
    """What was read before the locks does not hold behind them."""

    def __init__(self, repeats: set[bytes] | None = None) -> None:
        super().__init__()
        self.repeats = repeats or set()


async def store_batch(connection: Connection, batch: Sequence[StoredTouchpoint]) -> StoredBatch:
    """Store a batch under its contacts, each touchpoint once. Raises Unavailable when identities keep moving."""
    by_hash: dict[bytes, StoredTouchpoint] = {}
    for stored in batch:
        by_hash.setdefault(stored.hash, stored)
    for _ in range(MAX_ATTEMPTS):
        savepoint = connection.transaction()
        await savepoint.start()
        try:
            settled = await _attempt(connection, by_hash)
        except _AgainError as again:
            await savepoint.rollback()
            repeats = again.repeats
        except touchpoints.UniqueViolation:
            await savepoint.rollback()
            repeats = await touchpoints.get_older_copies(connection, list(by_hash.values()))
            repeats |= await touchpoints.get_repeated_hashes(connection, list(by_hash))
        else:
            await savepoint.commit()
            settled.repeated = len(batch) - len(settled.fresh)
            return settled
        for repeated in repeats:
            by_hash.pop(repeated, None)
    raise Unavailable(f"identities moved {MAX_ATTEMPTS} times under one batch")


async def _attempt(connection: Connection, by_hash: dict[bytes, StoredTouchpoint]) -> StoredBatch:
    batch = [stored.identity for stored in by_hash.values()]
    known, versions = await identity.get_known(connection, _identifiers(batch))
    places = contested_devices(batch, known)
    claims = await identity.get_claims(connection, places)
    found = assign_contacts(batch, known, claims)
    unseen = await identity_links.list_unseen(connection, found.links)
    if not await identity.insert_identifiers(connection, found.new):
        raise _AgainError
    joined = (
        await identity_links.list_affected_contacts(connection, unseen, MAX_LINKS)
        if unseen
        else set()
    )
    concerned = _concerned(found, known) | joined
    if found.merged:
        concerned |= await identity_links.list_redirecting(connection, found.merged)
    locked = await identity.lock_contacts(connection, {*found.contacts, *concerned})
    if _stale(found, locked, versions) or await identity.get_claims(connection, places) != claims:
        raise _AgainError
    if (
        unseen
        and await identity_links.list_affected_contacts(connection, unseen, MAX_LINKS) != joined
    ):
        raise _AgainError
    repeats = await touchpoints.get_repeated_hashes(connection, list(by_hash))
    if repeats and (found.new or found.changed or unseen):
        raise _AgainError(repeats)  # a repeat must not link anything
    refolding = await fold_states.get_queued_refolds(connection, locked)
    moved = await _moved(connection, found, known)
    await identity.update_ownership(connection, found.changed)
    await identity.update_touchpoint_contacts(connection, moved)
    await identity.update_merged_contacts(connection, found.merged)
    fresh = [
        (stored, contact)
        for (digest, stored), contact in zip(by_hash.items(), found.contacts, strict=True)
        if digest not in repeats
    ]
    owners = [contact for _, contact in fresh]
    await touchpoints.insert_touchpoints(connection, [stored for stored, _ in fresh], owners)
    regrouped = ResolutionResult()
    if unseen:
        await identity_links.upsert_links(connection, unseen, "seen in a touchpoint", seen=True)
        if await identity.count_touchpoints(connection, joined, MOVE_BATCH + 1) > MOVE_BATCH:
            await identity_links.insert_deferred(connection, unseen)
        else:
            regrouped = await resolve_contacts(connection, joined)
        locked |= await identity.lock_contacts(connection, regrouped.contacts - locked.keys())
        owners = _after(regrouped, [stored for stored, _ in fresh], owners)
    return StoredBatch(
        [stored.touchpoint for stored, _ in fresh],
        owners,
        locked,
        concerned | set(found.new.values()) | regrouped.contacts,
        moved + regrouped.moved,
        {old: regrouped.merged.get(new, new) for old, new in found.merged.items()}
        | regrouped.merged,
        regrouped.contacts,
        refolding,
        0,
    )


def _identifiers(batch: Sequence[TouchpointIdentity]) -> set[tuple[str, Identifier]]:
    found: set[tuple[str, Identifier]] = set()
    for who in batch:
        for name in who.names:
            found.add((who.workspace, name))
        for device in (who.device, who.previous):
            if device is not None:
                found.add((who.workspace, ("anonymous_id", device)))
        for link in who.links:
            found.update((who.workspace, name) for name in link)
        if who.device is None and not who.names:
            found.add((who.workspace, ("message", f"{who.key[1]}:{who.key[2]}")))
    return found


def _concerned(found: Assignment, known: KnownIdentifiers) -> set[str]:
    """Return every contact that a change of a device's runs concerns: its home, its owners before and after."""
    contacts = {**known.contacts, **found.new}
    concerned = set(found.merged) | set(found.merged.values())
    for (workspace, anonymous_id), runs in found.changed.items():
        home = contacts.get((workspace, ("anonymous_id", anonymous_id)))
        if home is None:
            raise _AgainError  # the device's first claim was committed between two of our reads
        concerned.add(home)
        for run in [*runs, *known.ownership.get((workspace, anonymous_id), [])]:
            contact = contacts.get((workspace, run.owner))
            if contact is not None:
                concerned.add(contact)
    return concerned


def _stale(found: Assignment, locked: dict[str, LockedContact], versions: dict[str, int]) -> bool:
    """Return whether a locked contact is merged, or its identity is not the one that was seen."""
    seen_elsewhere = any(
        contact in versions and versions[contact] != row.identity_version
        for contact, row in locked.items()
    )
    return seen_elsewhere or any(
        locked[contact].merged_into is not None for contact in found.contacts
    )


async def _moved(
    connection: Connection, found: Assignment, known: KnownIdentifiers
) -> list[MovedTouchpoint]:
    """Return the stored touchpoints of changed devices that belong to somebody else now."""
    contacts = {**known.contacts, **found.new}
    moved = []
    for place, runs in sorted(found.changed.items()):
        for key, old in await identity.list_anonymous_touchpoints(connection, place):
            name = owner_at(runs, key)
            new = contacts[place[0], name] if name else old
            if new != old:
                moved.append(MovedTouchpoint(key, place[0], old, new))
    return moved


def _after(
    regrouped: ResolutionResult, fresh: Sequence[StoredTouchpoint], owners: Sequence[str]
) -> list[str]:
    """Return the owners of the fresh touchpoints after the regrouping."""
    moved = {(m.workspace, m.key): m.new for m in regrouped.moved}
    return [
        moved.get(
            (one.identity.workspace, one.identity.key), regrouped.merged.get(contact, contact)
        )
        for one, contact in zip(fresh, owners, strict=True)
    ]
