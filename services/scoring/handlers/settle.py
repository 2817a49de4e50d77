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
from services.scoring.domain.assignment import Assignment, Known, assign, contested
from services.scoring.domain.identity import Identifier, owner
from services.scoring.repository import identity, states, touchpoints
from services.scoring.repository.identity import Locked, Moved
from services.scoring.repository.touchpoints import Stored

ROUNDS = 30


class Settled(msgspec.Struct):
    """A batch whose touchpoints are stored under locked contacts."""

    fresh: list[Touchpoint]
    owners: list[str]
    """The contact of each fresh touchpoint."""
    locked: dict[str, Locked]
    identity_changed: set[str]
    """Contacts that won or lost an identifier, or touchpoints."""
    moved: list[Moved]
    merged: dict[str, str]
    refolding: set[str]
    repeated: int


class _AgainError(Exception):
    """What was read before the locks does not hold behind them."""

    def __init__(self, repeats: set[bytes] | None = None) -> None:
        super().__init__()
        self.repeats = repeats or set()


async def settle(connection: Connection, batch: Sequence[Stored]) -> Settled:
    """Store a batch under its contacts, each touchpoint once. Raises Unavailable when identities keep moving."""
    by_hash: dict[bytes, Stored] = {}
    for stored in batch:
        by_hash.setdefault(stored.hash, stored)
    for _ in range(ROUNDS):
        savepoint = connection.transaction()
        await savepoint.start()
        try:
            settled = await _attempt(connection, by_hash)
        except _AgainError as again:
            await savepoint.rollback()
            repeats = again.repeats
        except touchpoints.UniqueViolation:
            await savepoint.rollback()
            repeats = await touchpoints.older_copies(connection, list(by_hash.values()))
            repeats |= await touchpoints.repeats(connection, list(by_hash))
        else:
            await savepoint.commit()
            settled.repeated = len(batch) - len(settled.fresh)
            return settled
        for repeated in repeats:
            by_hash.pop(repeated, None)
    raise Unavailable(f"identities moved {ROUNDS} times under one batch")


async def _attempt(connection: Connection, by_hash: dict[bytes, Stored]) -> Settled:
    batch = [stored.touchpoint for stored in by_hash.values()]
    known, versions = await identity.known(connection, _identifiers(batch))
    places = contested(batch, known)
    claims = await identity.stored_claims(connection, places)
    found = assign(batch, known, claims)
    if not await identity.add_identifiers(connection, found.new):
        raise _AgainError
    concerned = _concerned(found, known)
    locked = await identity.lock(connection, {*found.contacts, *concerned})
    if _stale(found, locked, versions) or await identity.stored_claims(connection, places) != claims:
        raise _AgainError
    repeats = await touchpoints.repeats(connection, list(by_hash))
    if repeats and (found.new or found.changed):
        raise _AgainError(repeats)  # a repeat must not link anything
    refolding = await states.refolding(connection, locked)
    moved = await _moved(connection, found, known)
    await identity.replace_runs(connection, found.changed)
    await identity.move(connection, moved)
    await identity.merge(connection, found.merged)
    fresh = [
        (digest, stored, contact)
        for (digest, stored), contact in zip(by_hash.items(), found.contacts, strict=True)
        if digest not in repeats
    ]
    await touchpoints.store(
        connection, [s for _, s, _ in fresh], [digest for digest, _, _ in fresh], [c for _, _, c in fresh]
    )
    return Settled(
        [s.touchpoint for _, s, _ in fresh],
        [c for _, _, c in fresh],
        locked,
        concerned | set(found.new.values()),
        moved,
        found.merged,
        set(refolding),
        0,
    )


def _identifiers(batch: Sequence[Touchpoint]) -> set[tuple[str, Identifier]]:
    found: set[tuple[str, Identifier]] = set()
    for t in batch:
        if t.user_id is not None:
            found.add((t.workspace, ("user_id", t.user_id)))
        if t.anonymous_id is not None:
            found.add((t.workspace, ("anonymous_id", t.anonymous_id)))
        elif t.user_id is None:
            found.add((t.workspace, ("message", f"{t.source}:{t.message_id}")))
    return found


def _concerned(found: Assignment, known: Known) -> set[str]:
    """Return every contact that a change of a device's runs concerns: its home, its owners before and after."""
    contacts = {**known.contacts, **found.new}
    concerned = set(found.merged) | set(found.merged.values())
    for (workspace, anonymous_id), runs in found.changed.items():
        home = contacts.get((workspace, ("anonymous_id", anonymous_id)))
        if home is None:
            raise _AgainError  # the device's first claim was committed between two of our reads
        concerned.add(home)
        for run in [*runs, *known.runs.get((workspace, anonymous_id), [])]:
            contact = contacts.get((workspace, ("user_id", run.user_id)))
            if contact is not None:
                concerned.add(contact)
    return concerned


def _stale(found: Assignment, locked: dict[str, Locked], versions: dict[str, int]) -> bool:
    """Return whether a locked contact is merged, or its identity is not the one that was seen."""
    seen_elsewhere = any(
        contact in versions and versions[contact] != row.identity_version for contact, row in locked.items()
    )
    return seen_elsewhere or any(locked[contact].merged_into is not None for contact in found.contacts)


async def _moved(connection: Connection, found: Assignment, known: Known) -> list[Moved]:
    """Return the stored touchpoints of changed devices that belong to somebody else now."""
    contacts = {**known.contacts, **found.new}
    moved = []
    for place, runs in sorted(found.changed.items()):
        for key, old in await identity.anonymous_rows(connection, place):
            new = contacts[place[0], ("user_id", owner(runs, key) or "")]
            if new != old:
                moved.append(Moved(key, place[0], old, new))
    return moved
