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
from services.scoring.domain.assignment import Assignment, Known, assign, unsettled
from services.scoring.domain.identity import MAX_LINKS, Identifier, Who, owner
from services.scoring.handlers.regroup import Regrouped, regroup
from services.scoring.repository import identity, links, states, touchpoints
from services.scoring.repository.identity import Locked, Moved
from services.scoring.repository.states import Refold
from services.scoring.repository.touchpoints import Stored

ROUNDS = 30
MOVED_AT_ONCE = 1_000
"""People with more touchpoints than this are joined by a job, and not in the stream's transaction."""


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
    regrouped: set[str]
    """Contacts whose known identifiers are not those of before."""
    refolding: dict[str, Refold]
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
    batch = [stored.who for stored in by_hash.values()]
    known, versions = await identity.known(connection, _identifiers(batch))
    places = unsettled(batch, known)
    claims = await identity.stored_claims(connection, places)
    found = assign(batch, known, claims)
    unseen = await links.unseen(connection, found.links)
    if not await identity.add_identifiers(connection, found.new):
        raise _AgainError
    joined = await links.touched(connection, unseen, MAX_LINKS) if unseen else set()
    concerned = _concerned(found, known) | joined
    if found.merged:
        concerned |= await links.redirecting(connection, found.merged)
    locked = await identity.lock(connection, {*found.contacts, *concerned})
    if _stale(found, locked, versions) or await identity.stored_claims(connection, places) != claims:
        raise _AgainError
    if unseen and await links.touched(connection, unseen, MAX_LINKS) != joined:
        raise _AgainError
    repeats = await touchpoints.repeats(connection, list(by_hash))
    if repeats and (found.new or found.changed or unseen):
        raise _AgainError(repeats)  # a repeat must not link anything
    refolding = await states.refolding(connection, locked)
    moved = await _moved(connection, found, known)
    await identity.replace_runs(connection, found.changed)
    await identity.move(connection, moved)
    await identity.merge(connection, found.merged)
    fresh = [
        (stored, contact)
        for (digest, stored), contact in zip(by_hash.items(), found.contacts, strict=True)
        if digest not in repeats
    ]
    owners = [contact for _, contact in fresh]
    await touchpoints.store(connection, [stored for stored, _ in fresh], owners)
    regrouped = Regrouped()
    if unseen:
        await links.note(connection, unseen, "seen in a touchpoint", seen=True)
        if await identity.count_rows(connection, joined, MOVED_AT_ONCE + 1) > MOVED_AT_ONCE:
            await links.defer(connection, unseen)
        else:
            regrouped = await regroup(connection, joined)
        locked |= await identity.lock(connection, regrouped.changed - locked.keys())
        owners = _after(regrouped, [stored for stored, _ in fresh], owners)
    return Settled(
        [stored.touchpoint for stored, _ in fresh],
        owners,
        locked,
        concerned | set(found.new.values()) | regrouped.changed,
        moved + regrouped.moved,
        {old: regrouped.merged.get(new, new) for old, new in found.merged.items()} | regrouped.merged,
        regrouped.changed,
        refolding,
        0,
    )


def _identifiers(batch: Sequence[Who]) -> set[tuple[str, Identifier]]:
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
            contact = contacts.get((workspace, run.owner))
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
            name = owner(runs, key)
            new = contacts[place[0], name] if name else old
            if new != old:
                moved.append(Moved(key, place[0], old, new))
    return moved


def _after(regrouped: Regrouped, fresh: Sequence[Stored], owners: Sequence[str]) -> list[str]:
    """Return the owners of the fresh touchpoints after the regrouping."""
    moved = {(m.workspace, m.key): m.new for m in regrouped.moved}
    return [
        moved.get((one.who.workspace, one.who.key), regrouped.merged.get(contact, contact))
        for one, contact in zip(fresh, owners, strict=True)
    ]
