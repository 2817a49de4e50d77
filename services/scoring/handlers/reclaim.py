"""After a claim came or went otherwise than by a batch: whose a device is now, and which touchpoints change hands.

The caller holds the locks of every contact concerned.
"""

from collections.abc import Iterable

from libs.common import ids
from libs.common.db.connection import Connection
from services.scoring.domain.assignment import Place
from services.scoring.domain.identity import Identifier, Run, owner
from services.scoring.handlers.regroup import Regrouped
from services.scoring.repository import identity, links
from services.scoring.repository.identity import Moved


async def concerned(connection: Connection, places: Iterable[Place]) -> set[str]:
    """Return the contacts that a change of these devices' claims may concern: their own, and everybody's who claims."""
    wanted = set(places)
    names = {(workspace, ("anonymous_id", device)) for workspace, device in wanted}
    for place, found in (await identity.runs(connection, wanted)).items():
        names |= {(place[0], run.owner) for run in found}
    for place, claims in (await identity.stored_claims(connection, wanted)).items():
        names |= {(place[0], name) for _, name in claims.made}
    contacts, _ = await identity.contacts_of(connection, names)
    touched = set(contacts.values())
    return touched | await links.redirecting(connection, touched)


async def reclaim(connection: Connection, places: Iterable[Place]) -> Regrouped:
    """Bring the devices' runs in line with their stored claims and what corrections say of them."""
    wanted = set(places)
    before = await identity.runs(connection, wanted)
    after = {place: claims.runs() for place, claims in (await identity.stored_claims(connection, wanted)).items()}
    changed = {place: runs for place, runs in after.items() if runs != before.get(place, [])}
    found = Regrouped()
    if not changed:
        return found
    await identity.replace_runs(connection, changed)
    for place, runs in sorted(changed.items()):
        await _change(connection, place, before.get(place, []), runs, found)
    await identity.merge(connection, found.merged)
    await identity.move(connection, found.moved)
    return found


async def _change(connection: Connection, place: Place, before: list[Run], runs: list[Run], found: Regrouped) -> None:
    workspace, device = place
    itself: Identifier = ("anonymous_id", device)
    names = {(workspace, name) for name in (itself, *(run.owner for run in (*before, *runs)))}
    contacts, _ = await identity.contacts_of(connection, names)
    home = contacts[workspace, itself]
    if not runs:
        home = await _of_its_own(connection, place, home)
    elif not before and home != contacts[workspace, runs[0].owner]:
        found.merged[home] = contacts[workspace, runs[0].owner]
    for key, old in await identity.anonymous_rows(connection, place):
        name = owner(runs, key)
        new = contacts[workspace, name] if name else home
        if new != old:
            found.moved.append(Moved(key, workspace, old, new))
    found.changed |= {home, *contacts.values()}


async def _of_its_own(connection: Connection, place: Place, home: str) -> str:
    """Return the contact of a device that nobody claims any more: its old one given back, or a new one if that is taken."""
    workspace, device = place
    if await links.members(connection, [home]) or await _has_another(connection, place, home):
        home = ids.derive_id("contact", workspace, "anonymous_id", device, "again", home)
        await links.rehome(connection, workspace, {("anonymous_id", device): home})
        await links.regroup(connection, workspace, {("anonymous_id", device): home})
    await links.revive(connection, workspace, [home])
    return home


async def _has_another(connection: Connection, place: Place, home: str) -> bool:
    """Return whether another device that nobody claims has this contact as its own: both were one person's at first."""
    others = (await links.device_homes(connection, [home])).keys() - {place}
    return bool(others - (await identity.runs(connection, others)).keys())
