"""What a person says about what was recorded: a bot, a touchpoint to leave out, a stage they know better.

Each is appended with its author and takes effect through the re-fold queue.
"""

from collections.abc import Sequence

import msgspec

from libs.common.clock import SystemClock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import Conflict, NotFound, Unavailable
from services.scoring.domain.correction import Kind, ManualStage, correction_key
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.identity import MAX_LINKS, Identifier, Key, Link, extract_identity
from services.scoring.handlers.contact_resolution import ResolutionResult, resolve_contacts
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.device_reassignment import affected_contacts, reassign_devices
from services.scoring.handlers.identities import Author
from services.scoring.handlers.identity_changes import publish_identity_change
from services.scoring.repository import (
    accounts,
    contacts,
    corrections,
    fold_states,
    identity,
    identity_links,
    touchpoint_history,
)
from services.scoring.repository.fold_states import FoldRows, RefoldRequest

MAX_ATTEMPTS = 5


class _About(msgspec.Struct):
    """Touchpoints of a contact that a correction is about, with the claims and links that may stand or fall with them."""

    workspace: str
    contact: str
    keys: list[Key]
    places: set[tuple[str, str]]
    shown: set[tuple[str, Link]]
    consequences: list[tuple[str, Key, Key]]
    """(contact, touchpoint, its cause): touchpoints of others that are there because of these."""

    async def contacts(self, connection: Connection) -> set[str]:
        """Return the contacts that it concerns."""
        found = {self.contact, *(contact for contact, _, _ in self.consequences)}
        if self.places:
            found |= await affected_contacts(connection, self.places)
        if self.shown:
            found |= await identity_links.list_affected_contacts(connection, self.shown, MAX_LINKS)
        return found

    async def apply(self, connection: Connection) -> ResolutionResult:
        """Bring devices and people in line with what touchpoints still show."""
        found = ResolutionResult()
        if self.places:
            found = await reassign_devices(connection, self.places)
        if self.shown:
            for one in sorted(self.shown):
                seen = await _still_shown(connection, *one)
                await identity_links.upsert_links(
                    connection, [one], "a correction of a touchpoint", seen=seen
                )
            more = await resolve_contacts(
                connection,
                await identity_links.list_affected_contacts(connection, self.shown, MAX_LINKS),
            )
            merged = {
                old: more.merged.get(new, new) for old, new in found.merged.items()
            } | more.merged
            found = ResolutionResult(
                found.moved + more.moved, merged, found.contacts | more.contacts
            )
        return found


async def _chosen(
    connection: Connection, workspace: str, who: str, kind: Kind, message_ids: Sequence[str]
) -> _About:
    """Return what the correction is about. Raises NotFound."""
    contact = await contacts.get_contact_id(connection, workspace, who)
    (found,) = (await touchpoint_history.list_all_touchpoints(connection, [contact])).values()
    chosen = [t for t in found if not message_ids or t.message_id in message_ids]
    missing = set(message_ids) - {t.message_id for t in chosen}
    if missing or not chosen:
        raise NotFound(
            f"contact {contact} has no touchpoint {', '.join(sorted(missing)) or 'at all'}"
        )
    places: set[tuple[str, str]] = set()
    shown: set[tuple[str, Link]] = set()
    if kind in ("exclude", "include"):
        for person in map(extract_identity, chosen):
            places |= {(person.workspace, device) for device, _ in person.claims}
            shown |= {(person.workspace, link) for link in person.links}
    keys = sorted(t.key for t in chosen)
    consequences = await touchpoint_history.list_derived_touchpoints(
        connection, chosen[0].workspace, keys
    )
    return _About(chosen[0].workspace, contact, keys, places, shown, consequences)


class CorrectionService:
    """Appends corrections and queues who they concern."""

    def __init__(self, session: Session, outbox: Outbox, catalogue: CycleRegistry) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue

    async def correct_touchpoints(
        self, workspace: str, who: str, kind: Kind, message_ids: Sequence[str], author: Author
    ) -> int:
        """Correct touchpoints of a contact, all of them when none is named; return how many.

        Raises NotFound for an unknown contact or a message id that is not among its touchpoints.
        """
        for _ in range(MAX_ATTEMPTS):
            async with self._session.acquire() as connection, unit_of_work(connection):
                cycles = await self._catalogue.lock_active_cycles(connection)
                about = await _chosen(connection, workspace, who, kind, message_ids)
                concerned = await about.contacts(connection)
                await identity.lock_contacts(connection, concerned)
                if await _chosen(connection, workspace, who, kind, message_ids) != about:
                    continue
                if await about.contacts(connection) != concerned:
                    continue
                return await self._correct(connection, cycles, kind, about, author)
        raise Unavailable("its touchpoints kept moving: try again")

    async def _correct(
        self,
        connection: Connection,
        cycles: Sequence[ActiveCycle],
        kind: Kind,
        about: _About,
        author: Author,
    ) -> int:
        contact, keys = about.contact, about.keys
        await corrections.insert_touchpoint_corrections(
            connection, about.workspace, kind, keys, author.name, author.note
        )
        # What they did to others goes with them, and comes back when they count again in every way.
        others: Kind = "exclude" if kind in ("bot", "exclude") else "include"
        verdicts = (await corrections.get_verdicts(connection, [contact])).get(contact, {})
        gone = {
            key
            for key, verdict in verdicts.items()
            if others == "include" and (verdict.bot or verdict.excluded)
        }
        theirs = [key for _, key, cause in about.consequences if cause not in gone]
        await corrections.insert_touchpoint_corrections(
            connection, about.workspace, others, theirs, author.name, "its cause was corrected"
        )
        regrouped = await about.apply(connection)
        first = {c: key for c, key, _ in reversed(about.consequences)} | {contact: keys[0]}
        since = {c: key for c, key in first.items() if c not in regrouped.merged}
        await fold_states.upsert_rows(
            connection,
            FoldRows(contacts=dict.fromkeys(since.keys() - regrouped.contacts, (None, False))),
        )
        await fold_states.enqueue_refolds(
            connection,
            {c: RefoldRequest("corrected", key, rebuild_profile=True) for c, key in since.items()},
        )
        await accounts.enqueue_members(connection, since, "corrected")
        # Last, so that its reason stands where people changed too: what moved in was folded elsewhere, and is not new.
        reason = "identity_merge" if kind == "include" else "identity_unmerge"
        await publish_identity_change(connection, self._outbox, cycles, regrouped, reason)
        return len(keys)

    async def set_stage(
        self,
        workspace: str,
        who: str,
        cycle: str,
        places: dict[str, str],
        at: int,
        until: int,
        author: Author,
    ) -> int:
        """Set a known person's stages by hand at an instant, held until another; return the correction's number.

        Raises NotFound for an unknown contact, cycle, axis or stage; Conflict for somebody only a device is known of,
        and for an instant that has not come.
        """
        now = SystemClock().now()
        if at > now:
            raise Conflict("a stage cannot be set at an instant that has not come")
        async with self._session.acquire() as connection, unit_of_work(connection):
            _check_places(await self._catalogue.lock_active_cycles(connection), cycle, places)
            contact = await contacts.get_contact_id(connection, workspace, who)
            locked = (await identity.lock_contacts(connection, [contact]))[contact]
            name = await _known_name(connection, locked.workspace, contact, who)
            manual = ManualStage(0, at, now, cycle, places, until)
            number = await corrections.insert_stage_correction(
                connection, locked.workspace, name, manual, author.name, author.note
            )
            await fold_states.upsert_rows(connection, FoldRows(contacts={contact: (None, False)}))
            await fold_states.enqueue_refolds(
                connection, {contact: RefoldRequest("corrected", correction_key(at, number))}
            )
            return number


def _check_places(cycles: Sequence[ActiveCycle], cycle: str, places: dict[str, str]) -> None:
    engine = next((c.engine for c in cycles if c.live and c.engine.name == cycle), None)
    if engine is None:
        raise NotFound(
            f"no cycle {cycle!r}; there are {', '.join(c.engine.name for c in cycles if c.live)}"
        )
    known = {axis.name: [place.name for place in axis.places] for axis in engine.axes}
    for axis, place in places.items():
        if place not in known.get(axis, ()):
            there = ", ".join(known.get(axis, known))
            raise NotFound(
                f"cycle {cycle}: no {f'stage {place!r} on {axis}' if axis in known else f'axis {axis!r}'}; "
                f"there are {there}"
            )


async def _still_shown(connection: Connection, workspace: str, link: Link) -> bool:
    """Return whether a touchpoint that is not excluded shows the link."""
    found, _ = await identity.get_contacts(connection, {(workspace, name) for name in link})
    kept = await touchpoint_history.list_touchpoints(connection, set(found.values()))
    return any(
        link in extract_identity(t).links for touchpoints in kept.values() for t in touchpoints
    )


async def _known_name(connection: Connection, workspace: str, contact: str, who: str) -> Identifier:
    """Return the identifier that a stage is set for: the one named, else the contact's oldest."""
    members = (await identity_links.get_members(connection, [contact])).get(workspace)
    if not members:
        raise Conflict(
            "only a device is known of this contact: a stage is set for a person, so identify them first"
        )
    named = await contacts.get_identifier(connection, workspace, who)
    return named if named in {m.identifier for m in members} else members[0].identifier
