"""Identities for operators: shown, merged and unmerged by hand.

A merge or unmerge appends a correction with its author. Nothing is lost: it can be taken back.
"""

import msgspec

from libs.common.clock import SystemClock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import Conflict, Unavailable
from libs.common.ids import ContactId, WorkspaceId
from services.scoring.domain.assignment import DeviceKey
from services.scoring.domain.correction import Kind
from services.scoring.domain.identifier_components import connected_components, effective_links
from services.scoring.domain.identity import MAX_LINKS, Identifier, Link, make_link
from services.scoring.handlers.contact_resolution import ResolutionResult, resolve_contacts
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.device_reassignment import affected_contacts, reassign_devices
from services.scoring.handlers.identity_change_effects import publish_identity_change
from services.scoring.repository import (
    contacts,
    corrections,
    identifier_contacts,
    identity,
    identity_links,
)
from services.scoring.repository.corrections import CorrectionRow
from services.scoring.repository.identity_links import ClaimedDevice, LinkView

MAX_ATTEMPTS = 5


class Author(msgspec.Struct, frozen=True):
    """The author of a correction, with a note."""

    name: str
    note: str = ""


class IdentityChangeResult(msgspec.Struct):
    """The outcome of a merge or an unmerge."""

    contacts: list[ContactId]
    """The present contacts of the two identifiers; a single one if they are joined."""
    moved: int
    """Number of moved touchpoints."""
    still_joined: bool = False
    """The link is revoked, but other links join the two identifiers."""


class IdentityView(msgspec.Struct):
    """A contact's identity, with the links and corrections that explain it."""

    contact_id: ContactId
    redirects: list[str]
    """Merged contact ids that redirect to this contact."""
    identifiers: list[str]
    devices: list[ClaimedDevice]
    links: list[LinkView]
    corrections: list[CorrectionRow]


class IdentityService:
    """Shows, merges and unmerges contacts."""

    def __init__(self, session: Session, outbox: Outbox, registry: CycleRegistry) -> None:
        self._session = session
        self._outbox = outbox
        self._registry = registry

    async def show(self, workspace: WorkspaceId, reference: str) -> IdentityView:
        """Return a contact's identity. Raises NotFound."""
        async with self._session.acquire() as connection:
            contact = await contacts.get_contact_id(connection, workspace, reference)
            identifiers = await contacts.list_identifiers(connection, contact)
            return IdentityView(
                contact,
                sorted(await identifier_contacts.list_redirecting(connection, [contact])),
                identifiers,
                await identity_links.list_devices(connection, contact),
                await identity_links.list_links(connection, contact),
                await corrections.list_about_contact(connection, contact),
            )

    async def merge(
        self, workspace: WorkspaceId, first: str, second: str, author: Author
    ) -> IdentityChangeResult:
        """Link two identifiers by hand. Raises NotFound, or Conflict for two devices."""
        return await self._change_link("link", workspace, (first, second), author)

    async def unmerge(
        self, workspace: WorkspaceId, first: str, second: str, author: Author
    ) -> IdentityChangeResult:
        """Revoke the link of two identifiers. Raises NotFound, or Conflict without such a link."""
        return await self._change_link("unlink", workspace, (first, second), author)

    async def _change_link(
        self, kind: Kind, workspace: WorkspaceId, references: tuple[str, str], author: Author
    ) -> IdentityChangeResult:
        """Append a link correction, resolve identities, queue re-folds and enqueue messages.

        The affected contacts are read, locked in id order, and read again; if they differ, the
        transaction starts over, MAX_ATTEMPTS times at most.
        """
        for _ in range(MAX_ATTEMPTS):
            async with self._session.acquire() as connection, unit_of_work(connection):
                cycles = await self._registry.lock_active_cycles(connection)
                identifiers = [
                    await contacts.get_identifier(connection, workspace, reference)
                    for reference in references
                ]
                link = make_link(*identifiers)
                await _check_link(connection, workspace, link, kind)
                affected = await _list_affected_contacts(connection, workspace, link)
                await identity.lock_contacts(connection, affected)
                if affected != await _list_affected_contacts(connection, workspace, link):
                    continue
                now = SystemClock().now()
                await corrections.insert_link_correction(
                    connection, workspace, kind, link, now, author.name, author.note
                )
                resolution = await _resolve_identities(connection, workspace, link, kind, affected)
                reason = "identity_merge" if kind == "link" else "identity_unmerge"
                await publish_identity_change(connection, self._outbox, cycles, resolution, reason)
                contacts_by_identifier, _ = await identity.get_contacts(
                    connection, {(workspace, identifier) for identifier in identifiers}
                )
                contact_ids = sorted(set(contacts_by_identifier.values()))
                is_joined = (
                    kind == "unlink" and link[0][0] != "anonymous_id" and len(contact_ids) == 1
                )
                return IdentityChangeResult(contact_ids, len(resolution.moved), is_joined)
        raise Unavailable("the contacts' identities keep changing: try again")


async def _check_link(
    connection: Connection, workspace: WorkspaceId, link: Link, kind: Kind
) -> None:
    """Raise Conflict for a link that cannot be made, or one to revoke that does not exist."""
    first, second = link
    if first == second:
        raise Conflict(f"{first[0]}:{first[1]} is given twice")
    if second[0] == "anonymous_id":
        raise Conflict(
            "two devices without a known identifier cannot be merged: "
            "identify a contact on one of them first"
        )
    if kind == "unlink" and first[0] == "anonymous_id":
        device = DeviceKey(workspace, first[1])
        periods = (await identity.get_ownership(connection, [device])).get(device, [])
        if second not in [period.owner for period in periods]:
            raise Conflict(f"{second[0]}:{second[1]} has no claim on the device {first[1]}")
    if kind == "unlink" and first[0] != "anonymous_id":
        links = await identity_links.list_links_of(connection, workspace, [first], MAX_LINKS)
        if link not in links:
            between = _identifiers_between(
                await _list_component_links(connection, workspace, first), first, second
            )
            hint = f"; they are joined through {between}" if between else ""
            raise Conflict(
                f"no link joins {first[0]}:{first[1]} and {second[0]}:{second[1]} directly{hint}"
            )


async def _list_component_links(
    connection: Connection, workspace: WorkspaceId, identifier: Identifier
) -> list[Link]:
    """Return the effective links of all identifiers of the identifier's contact."""
    contacts_by_identifier, _ = await identity.get_contacts(connection, {(workspace, identifier)})
    members = (await identity_links.get_members(connection, contacts_by_identifier.values())).get(
        workspace, []
    )
    return effective_links(
        await identity_links.list_links_of(
            connection, workspace, [m.identifier for m in members], MAX_LINKS
        )
    )


def _identifiers_between(links: list[Link], first: Identifier, second: Identifier) -> str:
    """Return the other identifiers of the component of both; empty if they are not connected."""
    identifiers = {identifier for link in links for identifier in link}
    component = next(
        (part for part in connected_components(identifiers, links) if first in part), []
    )
    between = [
        f"{kind}:{value}" for kind, value in component if (kind, value) not in (first, second)
    ]
    return ", ".join(between) if second in component else ""


async def _list_affected_contacts(
    connection: Connection, workspace: WorkspaceId, link: Link
) -> set[ContactId]:
    """Return the contacts that a change of the link concerns; locks nothing."""
    if link[0][0] == "anonymous_id":
        owner_contact, _ = await identity.get_contacts(connection, {(workspace, link[1])})
        device_contacts = await affected_contacts(connection, [DeviceKey(workspace, link[0][1])])
        return device_contacts | set(owner_contact.values())
    return await identity_links.list_affected_contacts(connection, [(workspace, link)], MAX_LINKS)


async def _resolve_identities(
    connection: Connection, workspace: WorkspaceId, link: Link, kind: Kind, affected: set[ContactId]
) -> ResolutionResult:
    """Apply the correction: to the device's ownership, or to the link and its contacts."""
    if link[0][0] == "anonymous_id":
        return await reassign_devices(connection, [DeviceKey(workspace, link[0][1])])
    await identity_links.upsert_links(connection, [(workspace, link)], "a correction", verdict=kind)
    return await resolve_contacts(connection, affected)
