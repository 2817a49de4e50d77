"""Who is who, by hand: look, merge, unmerge. Each is a correction, appended with its author; nothing is lost by one."""

import msgspec

from libs.common.clock import SystemClock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import Conflict, Unavailable
from services.scoring.domain.correction import Kind
from services.scoring.domain.identifier_components import connected_components, effective_links
from services.scoring.domain.identity import MAX_LINKS, Identifier, Link, make_link
from services.scoring.handlers.contact_resolution import ResolutionResult, resolve_contacts
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.device_reassignment import affected_contacts, reassign_devices
from services.scoring.handlers.identity_changes import publish_identity_change
from services.scoring.repository import contacts, corrections, identity, identity_links
from services.scoring.repository.corrections import CorrectionRow
from services.scoring.repository.identity_links import ClaimedDevice, LinkView

MAX_ATTEMPTS = 5


class Author(msgspec.Struct, frozen=True):
    """Who corrects, and what they say about it."""

    name: str
    note: str = ""


class IdentityChangeResult(msgspec.Struct):
    """What a merge or an unmerge came to."""

    contacts: list[str]
    """The contacts of the two identifiers now; one when they are the same person."""
    moved: int
    still_joined: bool = False
    """The link is revoked, but others still join the two."""


class IdentityView(msgspec.Struct):
    """Who somebody is, and why."""

    contact_id: str
    redirects: list[str]
    """Contact ids that lead here."""
    identifiers: list[str]
    devices: list[ClaimedDevice]
    links: list[LinkView]
    corrections: list[CorrectionRow]


class IdentityService:
    """Shows, merges and unmerges people."""

    def __init__(self, session: Session, outbox: Outbox, catalogue: CycleRegistry) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue

    async def show(self, workspace: str, who: str) -> IdentityView:
        """Return who somebody is. Raises NotFound."""
        async with self._session.acquire() as connection:
            contact = await contacts.get_contact_id(connection, workspace, who)
            names = await contacts.list_identifiers(connection, contact)
            return IdentityView(
                contact,
                sorted(await identity_links.list_redirecting(connection, [contact])),
                names,
                await identity_links.list_devices(connection, contact),
                await identity_links.list_links(connection, contact),
                await corrections.list_about_contact(connection, contact),
            )

    async def merge(
        self, workspace: str, one: str, other: str, author: Author
    ) -> IdentityChangeResult:
        """Say that two people are one. Raises NotFound for an identifier nobody has, Conflict for two devices."""
        return await self._say("link", workspace, one, other, author)

    async def unmerge(
        self, workspace: str, one: str, other: str, author: Author
    ) -> IdentityChangeResult:
        """Say that two identifiers are not one person's. Raises NotFound, or Conflict when no link joins them."""
        return await self._say("unlink", workspace, one, other, author)

    async def _say(
        self, kind: Kind, workspace: str, one: str, other: str, author: Author
    ) -> IdentityChangeResult:
        for _ in range(MAX_ATTEMPTS):
            async with self._session.acquire() as connection, unit_of_work(connection):
                cycles = await self._catalogue.lock_active_cycles(connection)
                names = [
                    await contacts.get_identifier(connection, workspace, who)
                    for who in (one, other)
                ]
                link = make_link(*names)
                await _check(connection, workspace, link, kind)
                touched = await _touched(connection, workspace, link)
                await identity.lock_contacts(connection, touched)
                if touched != await _touched(connection, workspace, link):
                    continue
                now = SystemClock().now()
                await corrections.insert_link_correction(
                    connection, workspace, kind, link, now, author.name, author.note
                )
                found = await _apply(connection, workspace, link, kind, touched)
                reason = "identity_merge" if kind == "link" else "identity_unmerge"
                await publish_identity_change(connection, self._outbox, cycles, found, reason)
                now_of, _ = await identity.get_contacts(
                    connection, {(workspace, name) for name in names}
                )
                ids = sorted(set(now_of.values()))
                joined = kind == "unlink" and link[0][0] != "anonymous_id" and len(ids) == 1
                return IdentityChangeResult(ids, len(found.moved), joined)
        raise Unavailable("identities kept moving: try again")


async def _check(connection: Connection, workspace: str, link: Link, kind: Kind) -> None:
    one, other = link
    if one == other:
        raise Conflict(f"{one[0]}:{one[1]} is given twice")
    if other[0] == "anonymous_id":
        raise Conflict(
            "two devices without a known person cannot be joined: identify one of them first"
        )
    if kind == "unlink" and one[0] == "anonymous_id":
        runs = (await identity.get_ownership(connection, [(workspace, one[1])])).get(
            (workspace, one[1]), []
        )
        if other not in [run.owner for run in runs]:
            raise Conflict(f"{other[0]}:{other[1]} has no claim on the device {one[1]}")
    if kind == "unlink" and one[0] != "anonymous_id":
        found = await identity_links.list_links_of(connection, workspace, [one], MAX_LINKS)
        if link not in found:
            path = _path(await _reached(connection, workspace, one), one, other)
            cure = f"; they are joined through {path}" if path else ""
            raise Conflict(
                f"no link joins {one[0]}:{one[1]} and {other[0]}:{other[1]} directly{cure}"
            )


async def _reached(connection: Connection, workspace: str, one: Identifier) -> list[Link]:
    contact, _ = await identity.get_contacts(connection, {(workspace, one)})
    members = (await identity_links.get_members(connection, contact.values())).get(workspace, [])
    return effective_links(
        await identity_links.list_links_of(
            connection, workspace, [m.identifier for m in members], MAX_LINKS
        )
    )


def _path(found: list[Link], one: Identifier, other: Identifier) -> str:
    """Return the identifiers between two that links join, or nothing when none do."""
    names = {name for link in found for name in link}
    joined = next((part for part in connected_components(names, found) if one in part), [])
    between = [f"{kind}:{value}" for kind, value in joined if (kind, value) not in (one, other)]
    return ", ".join(between) if other in joined else ""


async def _touched(connection: Connection, workspace: str, link: Link) -> set[str]:
    if link[0][0] == "anonymous_id":
        contact, _ = await identity.get_contacts(connection, {(workspace, link[1])})
        return await affected_contacts(connection, [(workspace, link[0][1])]) | set(
            contact.values()
        )
    return await identity_links.list_affected_contacts(connection, [(workspace, link)], MAX_LINKS)


async def _apply(
    connection: Connection, workspace: str, link: Link, kind: Kind, touched: set[str]
) -> ResolutionResult:
    if link[0][0] == "anonymous_id":
        return await reassign_devices(connection, [(workspace, link[0][1])])
    await identity_links.upsert_links(connection, [(workspace, link)], "a correction", verdict=kind)
    return await resolve_contacts(connection, touched)
