"""Corrections by an operator: touchpoints flagged or excluded, and stages set by hand.

A correction is appended with its author and takes effect through the re-fold queue.
"""

from collections.abc import Sequence

import msgspec

from libs.common.clock import SystemClock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import Conflict, NotFound, Unavailable
from libs.common.ids import ContactId, WorkspaceId
from services.scoring.domain.assignment import DeviceKey
from services.scoring.domain.correction import Kind, ManualStage, correction_key
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.identity import MAX_LINKS, Identifier, Key, Link, extract_identity
from services.scoring.handlers.contact_resolution import ResolutionResult, resolve_contacts
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.device_reassignment import affected_contacts, reassign_devices
from services.scoring.handlers.identities import Author
from services.scoring.handlers.identity_change_effects import publish_identity_change
from services.scoring.repository import (
    accounts,
    contacts,
    corrections,
    fold_states,
    identity,
    identity_links,
    touchpoint_history,
)
from services.scoring.repository.fold_rows import FoldRows
from services.scoring.repository.fold_states import RefoldRequest
from services.scoring.repository.identity_links import WorkspaceLink

MAX_ATTEMPTS = 5


class _CorrectionScope(msgspec.Struct):
    """The touchpoints of a correction, with the claims and links that depend on them."""

    workspace: WorkspaceId
    contact: ContactId
    keys: list[Key]
    devices: set[DeviceKey]
    links: set[WorkspaceLink]
    derived: list[tuple[ContactId, Key, Key]]
    """(contact, touchpoint, its cause): touchpoints of other contacts caused by these."""

    async def list_affected_contacts(self, connection: Connection) -> set[ContactId]:
        """Return the contacts that the correction concerns; locks nothing."""
        affected = {self.contact, *(contact for contact, _, _ in self.derived)}
        if self.devices:
            affected |= await affected_contacts(connection, self.devices)
        if self.links:
            affected |= await identity_links.list_affected_contacts(
                connection, self.links, MAX_LINKS
            )
        return affected

    async def resolve_identities(self, connection: Connection) -> ResolutionResult:
        """Bring devices and contacts in line with the claims and links that touchpoints show now.

        Writes device ownership, then links, then the assignment of contacts.
        """
        result = ResolutionResult()
        if self.devices:
            result = await reassign_devices(connection, self.devices)
        if self.links:
            for link in sorted(self.links):
                seen = await _is_link_seen(connection, *link)
                await identity_links.upsert_links(
                    connection, [link], "a correction of a touchpoint", seen=seen
                )
            resolved = await resolve_contacts(
                connection,
                await identity_links.list_affected_contacts(connection, self.links, MAX_LINKS),
            )
            merged = {
                old: resolved.merged.get(new, new) for old, new in result.merged.items()
            } | resolved.merged
            result = ResolutionResult(
                result.moved + resolved.moved, merged, result.contacts | resolved.contacts
            )
        return result


async def _get_scope(
    connection: Connection,
    workspace: WorkspaceId,
    reference: str,
    kind: Kind,
    message_ids: Sequence[str],
) -> _CorrectionScope:
    """Return the scope of a correction; no message ids stand for all touchpoints.

    Locks nothing. Raises NotFound for an unknown contact or message id.
    """
    contact = await contacts.get_contact_id(connection, workspace, reference)
    (touchpoints,) = (await touchpoint_history.list_all_touchpoints(connection, [contact])).values()
    chosen = [t for t in touchpoints if not message_ids or t.message_id in message_ids]
    missing = set(message_ids) - {t.message_id for t in chosen}
    if missing or not chosen:
        raise NotFound(
            f"contact {contact} has no touchpoint {', '.join(sorted(missing)) or 'at all'}"
        )
    devices: set[DeviceKey] = set()
    links: set[WorkspaceLink] = set()
    if kind in ("exclude", "include"):
        for identity_ in map(extract_identity, chosen):
            devices |= {DeviceKey(identity_.workspace, device) for device, _ in identity_.claims}
            links |= {(identity_.workspace, link) for link in identity_.links}
    keys = sorted(t.key for t in chosen)
    derived = await touchpoint_history.list_derived_touchpoints(
        connection, chosen[0].workspace, keys
    )
    return _CorrectionScope(chosen[0].workspace, contact, keys, devices, links, derived)


class CorrectionService:
    """Appends corrections and queues the contacts that they concern."""

    def __init__(self, session: Session, outbox: Outbox, registry: CycleRegistry) -> None:
        self._session = session
        self._outbox = outbox
        self._registry = registry

    async def correct_touchpoints(
        self,
        workspace: WorkspaceId,
        reference: str,
        kind: Kind,
        message_ids: Sequence[str],
        author: Author,
    ) -> int:
        """Correct touchpoints of a contact, all of them if none is named; return their number.

        The affected contacts are read, locked in id order, and read again; if they or the
        touchpoints differ, the transaction starts over. Raises NotFound for an unknown contact or a
        message id that is not among its touchpoints, Unavailable after MAX_ATTEMPTS.
        """
        for _ in range(MAX_ATTEMPTS):
            async with self._session.acquire() as connection, unit_of_work(connection):
                cycles = await self._registry.lock_active_cycles(connection)
                scope = await _get_scope(connection, workspace, reference, kind, message_ids)
                affected = await scope.list_affected_contacts(connection)
                await identity.lock_contacts(connection, affected)
                if (
                    await _get_scope(connection, workspace, reference, kind, message_ids) != scope
                    or await scope.list_affected_contacts(connection) != affected
                ):
                    continue
                return await self._correct(connection, cycles, kind, scope, author)
        raise Unavailable("the contact's touchpoints keep changing: try again")

    async def _correct(
        self,
        connection: Connection,
        cycles: Sequence[ActiveCycle],
        kind: Kind,
        scope: _CorrectionScope,
        author: Author,
    ) -> int:
        """Append the corrections, resolve identities, queue re-folds and enqueue messages.

        Derived touchpoints of other contacts are excluded together with their causes, and included
        again once no correction filters the cause.
        """
        contact, keys = scope.contact, scope.keys
        await corrections.insert_touchpoint_corrections(
            connection, scope.workspace, kind, keys, author.name, author.note
        )
        derived_kind: Kind = "exclude" if kind in ("bot", "exclude") else "include"
        verdicts = (await corrections.get_verdicts(connection, [contact])).get(contact, {})
        filtered_causes = {
            key
            for key, verdict in verdicts.items()
            if derived_kind == "include" and (verdict.bot or verdict.excluded)
        }
        derived_keys = [key for _, key, cause in scope.derived if cause not in filtered_causes]
        await corrections.insert_touchpoint_corrections(
            connection,
            scope.workspace,
            derived_kind,
            derived_keys,
            author.name,
            "its cause was corrected",
        )
        resolution = await scope.resolve_identities(connection)
        first_keys = {c: key for c, key, _ in reversed(scope.derived)} | {contact: keys[0]}
        since = {c: key for c, key in first_keys.items() if c not in resolution.merged}
        await fold_states.upsert_rows(
            connection,
            FoldRows(contacts=dict.fromkeys(since.keys() - resolution.contacts, (None, False))),
        )
        await fold_states.enqueue_refolds(
            connection,
            {c: RefoldRequest("corrected", key, rebuild_profile=True) for c, key in since.items()},
        )
        await accounts.enqueue_accounts_of(connection, since, "corrected")
        # Last, so that its reason replaces `corrected` for contacts whose identity changed:
        # touchpoints that moved in were folded under another contact, and are not new.
        reason = "identity_merge" if kind == "include" else "identity_unmerge"
        await publish_identity_change(connection, self._outbox, cycles, resolution, reason)
        return len(keys)

    async def set_stage(
        self,
        workspace: WorkspaceId,
        reference: str,
        cycle: str,
        places: dict[str, str],
        at: int,
        until: int,
        author: Author,
    ) -> int:
        """Set stages ({axis: stage}) of a contact by hand from `at` until `until`.

        Locks the contact, appends the correction, raises the contact's version and queues its
        re-fold. Returns the correction's number. Raises NotFound for an unknown contact, cycle,
        axis or stage; Conflict for a contact without a known identifier and for a future instant.
        """
        now = SystemClock().now()
        if at > now:
            raise Conflict("a stage cannot be set at an instant in the future")
        async with self._session.acquire() as connection, unit_of_work(connection):
            _check_places(await self._registry.lock_active_cycles(connection), cycle, places)
            contact = await contacts.get_contact_id(connection, workspace, reference)
            locked = (await identity.lock_contacts(connection, [contact]))[contact]
            identifier = await _get_known_identifier(
                connection, locked.workspace, contact, reference
            )
            manual = ManualStage(0, at, now, cycle, places, until)
            number = await corrections.insert_stage_correction(
                connection, locked.workspace, identifier, manual, author.name, author.note
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
    stages = {axis.name: [stage.name for stage in axis.places] for axis in engine.axes}
    for axis, stage in places.items():
        if stage not in stages.get(axis, ()):
            missing = f"stage {stage!r} on {axis}" if axis in stages else f"axis {axis!r}"
            raise NotFound(
                f"cycle {cycle}: no {missing}; there are {', '.join(stages.get(axis, stages))}"
            )


async def _is_link_seen(connection: Connection, workspace: WorkspaceId, link: Link) -> bool:
    """Return whether a touchpoint that is not excluded shows the link."""
    contacts_by_identifier, _ = await identity.get_contacts(
        connection, {(workspace, identifier) for identifier in link}
    )
    by_contact = await touchpoint_history.list_touchpoints(
        connection, set(contacts_by_identifier.values())
    )
    return any(
        link in extract_identity(t).links
        for touchpoints in by_contact.values()
        for t in touchpoints
    )


async def _get_known_identifier(
    connection: Connection, workspace: WorkspaceId, contact: ContactId, reference: str
) -> Identifier:
    """Return the known identifier that `reference` names, else the contact's oldest.

    Raises Conflict for a contact without a known identifier.
    """
    members = (await identity_links.get_members(connection, [contact])).get(workspace)
    if not members:
        raise Conflict(
            "this contact has only a device: a stage needs a known identifier, "
            "so identify the contact first"
        )
    identifier = await contacts.get_identifier(connection, workspace, reference)
    return identifier if identifier in {m.identifier for m in members} else members[0].identifier
