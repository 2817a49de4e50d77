"""Reading one contact: where it stands now, and why. Nothing is written."""

from typing import Any

import msgspec

from libs.common.clock import SystemClock
from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from services.scoring.domain import contact_profile, fold_state
from services.scoring.domain.campaign_touch import CampaignTouch, first_and_last_touch
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.explanation import Explanation, explain
from services.scoring.domain.fold import advance, current_position
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.repository import contacts, fold_states, touchpoint_history


class CyclePosition(msgspec.Struct, frozen=True):
    """Where a contact stands in a cycle at an instant."""

    stage: str
    axes: dict[str, str]
    dormant: bool
    instance: str
    scores: dict[str, float]
    sequence: int
    """Of the last published stage change."""


class ContactView(msgspec.Struct, frozen=True):
    """One contact, as the API shows it."""

    contact_id: str
    workspace: str
    identifiers: list[str]
    traits: dict[str, Any]
    refolding: bool
    cycles: dict[str, CyclePosition]
    at: int
    first_touch: CampaignTouch | None
    last_touch: CampaignTouch | None


class ContactExplanation(msgspec.Struct, frozen=True):
    """A contact's explanations by cycle."""

    contact_id: str
    at: int
    cycles: dict[str, Explanation]


class ContactService:
    """Reads contacts."""

    def __init__(self, session: Session, catalogue: CycleRegistry) -> None:
        self._session = session
        self._catalogue = catalogue

    async def get(self, workspace: str, who: str) -> ContactView:
        """Return a workspace's contact, advanced to the wall clock. Raises NotFound."""
        now = SystemClock().now()
        async with self._session.acquire() as connection, unit_of_work(connection):
            live = [
                c
                for c in await self._catalogue.lock_active_cycles(connection)
                if c.live and not c.is_account_cycle
            ]
            contact = await contacts.get_contact_id(connection, workspace, who)
            (summary,) = await contacts.get_summaries(connection, [contact])
            held = await fold_states.get_states(connection, [contact])
            told = await fold_states.get_publications(connection, [contact])
            waiting = await fold_states.get_queued_refolds(connection, [contact])
            names = await contacts.list_identifiers(connection, contact)
            found = (await touchpoint_history.list_touchpoints(connection, [contact]))[contact]
        cycles = {}
        for cycle in live:
            row = held.get((contact, cycle.engine.fold))
            last = told.get((contact, cycle.engine.name))
            if row is not None:
                sequence = last.sequence if last else 0
                cycles[cycle.engine.name] = _standing(cycle, row.state, now, sequence)
        traits = contact_profile.trait_values(contact_profile.decode_profile(summary.profile))
        return ContactView(
            contact,
            summary.workspace,
            names,
            traits,
            bool(waiting),
            cycles,
            now,
            *first_and_last_touch(found),
        )

    async def explain(
        self, workspace: str, who: str, at: int | None, cycle: str | None
    ) -> ContactExplanation:
        """Fold a contact once more with a recorder, up to an instant. Raises NotFound."""
        instant = SystemClock().now() if at is None else at
        async with self._session.acquire() as connection, unit_of_work(connection):
            live = [
                c
                for c in await self._catalogue.lock_active_cycles(connection)
                if c.live and not c.is_account_cycle
            ]
            chosen = [c for c in live if cycle in (None, c.engine.name)]
            if not chosen:
                raise NotFound(
                    f"no cycle {cycle!r}; there are {', '.join(c.engine.name for c in live)}"
                )
            contact = await contacts.get_contact_id(connection, workspace, who)
            (found,) = (
                await touchpoint_history.get_histories(connection, {contact: None})
            ).values()
        explained = {}
        for one in chosen:
            explanation = explain(one, found.to_fold_events(one, None)[0], instant)
            if explanation is not None:
                explained[one.engine.name] = explanation
        return ContactExplanation(contact, instant, explained)


def _standing(cycle: ActiveCycle, raw: bytes, now: int, sequence: int) -> CyclePosition:
    engine = cycle.engine
    view = fold_state.decode_state(raw, engine.atoms)
    advance(engine, view, now, [])
    here = current_position(engine, view)
    scores = dict(zip(engine.score_names, engine.score_values_at(view, now), strict=True))
    axes = dict(zip(engine.axis_names, here.places, strict=True))
    return CyclePosition(here.stage, axes, here.dormant, here.instance, scores, sequence)
