"""One contact for readers: its current positions and their explanation. Nothing is written."""

from typing import Any

import msgspec

from libs.common.clock import SystemClock
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from libs.common.ids import ContactId, WorkspaceId
from services.scoring.domain import contact_profile
from services.scoring.domain.campaign_touch import CampaignTouch, first_and_last_touch
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.explanation import Explanation, explain
from services.scoring.domain.fold import advance, current_position
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.repository import contacts, fold_states, touchpoint_history
from services.scoring.repository.fold_rows import FoldKey, PublicationKey


class CyclePosition(msgspec.Struct, frozen=True):
    """A contact's position in a cycle at an instant."""

    stage: str
    axes: dict[str, str]
    dormant: bool
    instance: str
    scores: dict[str, float]
    sequence: int
    """The sequence number of the last published stage change."""


class ContactView(msgspec.Struct, frozen=True):
    """One contact, as the API shows it."""

    contact_id: ContactId
    workspace: WorkspaceId
    identifiers: list[str]
    traits: dict[str, Any]
    refolding: bool
    cycles: dict[str, CyclePosition]
    at: int
    first_touch: CampaignTouch | None
    last_touch: CampaignTouch | None


class ContactExplanation(msgspec.Struct, frozen=True):
    """A contact's explanations by cycle."""

    contact_id: ContactId
    at: int
    cycles: dict[str, Explanation]


class ContactService:
    """Shows and explains contacts."""

    def __init__(self, session: Session, registry: CycleRegistry) -> None:
        self._session = session
        self._registry = registry

    async def get(self, workspace: WorkspaceId, reference: str) -> ContactView:
        """Return a workspace's contact, advanced to the wall clock. Raises NotFound.

        All rows are read in one transaction that locks the cycle versions in shared mode.
        """
        now = SystemClock().now()
        async with self._session.acquire() as connection, unit_of_work(connection):
            cycles = await self._lock_live_cycles(connection)
            contact = await contacts.get_contact_id(connection, workspace, reference)
            (summary,) = await contacts.get_summaries(connection, [contact])
            states = await fold_states.get_states(connection, [contact])
            published = await fold_states.get_publications(connection, [contact])
            queued = await fold_states.get_queued_refolds(connection, [contact])
            identifiers = await contacts.list_identifiers(connection, contact)
            touchpoints = (await touchpoint_history.list_touchpoints(connection, [contact]))[
                contact
            ]
        positions = {}
        for cycle in cycles:
            row = states.get(FoldKey(contact, cycle.engine.fold))
            last = published.get(PublicationKey(contact, cycle.engine.name))
            if row is not None:
                sequence = last.sequence if last else 0
                positions[cycle.engine.name] = _position_at(cycle, row.state, now, sequence)
        traits = contact_profile.trait_values(contact_profile.decode_profile(summary.profile))
        return ContactView(
            contact,
            summary.workspace,
            identifiers,
            traits,
            bool(queued),
            positions,
            now,
            *first_and_last_touch(touchpoints),
        )

    async def explain(
        self, workspace: WorkspaceId, reference: str, at: int | None, cycle: str | None
    ) -> ContactExplanation:
        """Fold a contact again with a recorder, up to an instant (now by default).

        In one cycle, or in all live ones. Raises NotFound for an unknown contact or cycle.
        """
        instant = SystemClock().now() if at is None else at
        async with self._session.acquire() as connection, unit_of_work(connection):
            live_cycles = await self._lock_live_cycles(connection)
            cycles = [c for c in live_cycles if cycle in (None, c.engine.name)]
            if not cycles:
                raise NotFound(
                    f"no cycle {cycle!r}; there are {', '.join(c.engine.name for c in live_cycles)}"
                )
            contact = await contacts.get_contact_id(connection, workspace, reference)
            (history,) = (
                await touchpoint_history.get_histories(connection, {contact: None})
            ).values()
        explained = {}
        for live_cycle in cycles:
            events, _ = history.to_fold_events(live_cycle, None)
            explanation = explain(live_cycle, events, instant)
            if explanation is not None:
                explained[live_cycle.engine.name] = explanation
        return ContactExplanation(contact, instant, explained)

    async def _lock_live_cycles(self, connection: Connection) -> list[ActiveCycle]:
        return [
            cycle
            for cycle in await self._registry.lock_active_cycles(connection)
            if cycle.live and not cycle.is_account_cycle
        ]


def _position_at(
    cycle: ActiveCycle, encoded_state: bytes, now: int, sequence: int
) -> CyclePosition:
    engine = cycle.engine
    state = engine.decode_state(encoded_state)
    advance(engine, state, now, [])
    position = current_position(engine, state)
    scores = dict(zip(engine.score_names, engine.score_values_at(state, now), strict=True))
    axes = dict(zip(engine.axis_names, position.places, strict=True))
    return CyclePosition(
        position.stage, axes, position.dormant, position.instance, scores, sequence
    )
