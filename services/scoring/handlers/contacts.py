"""Reading one contact: where it stands now, and why. Nothing is written."""

from typing import Any

import msgspec

from libs.common.clock import SystemClock
from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from services.scoring.domain import profile, state
from services.scoring.domain.cycle import Cycle
from services.scoring.domain.explain import Explanation, explain
from services.scoring.domain.fold import advance, position
from services.scoring.domain.touch import Touch, touches
from services.scoring.handlers.catalogue import Catalogue
from services.scoring.repository import contacts, history, states


class Standing(msgspec.Struct, frozen=True):
    """Where a contact stands in a cycle at an instant."""

    stage: str
    axes: dict[str, str]
    dormant: bool
    instance: str
    scores: dict[str, float]
    sequence: int
    """Of the last published stage change."""


class Contact(msgspec.Struct, frozen=True):
    """One contact, as the API shows it."""

    contact_id: str
    workspace: str
    identifiers: list[str]
    traits: dict[str, Any]
    refolding: bool
    cycles: dict[str, Standing]
    at: int
    first_touch: Touch | None
    last_touch: Touch | None


class Explained(msgspec.Struct, frozen=True):
    """A contact's explanations by cycle."""

    contact_id: str
    at: int
    cycles: dict[str, Explanation]


class Contacts:
    """Reads contacts."""

    def __init__(self, session: Session, catalogue: Catalogue) -> None:
        self._session = session
        self._catalogue = catalogue

    async def one(self, workspace: str, who: str) -> Contact:
        """Return a workspace's contact, advanced to the wall clock. Raises NotFound."""
        now = SystemClock().now()
        async with self._session.acquire() as connection, unit_of_work(connection):
            live = [c for c in await self._catalogue.folding(connection) if c.live and not c.of_accounts]
            contact = await contacts.get(connection, workspace, who)
            (summary,) = await contacts.summaries(connection, [contact])
            held = await states.load(connection, [contact])
            told = await states.published(connection, [contact])
            waiting = await states.refolding(connection, [contact])
            names = await contacts.identifiers(connection, contact)
            found = (await history.of(connection, [contact]))[contact]
        cycles = {}
        for cycle in live:
            row = held.get((contact, cycle.engine.fold))
            last = told.get((contact, cycle.engine.name))
            if row is not None:
                sequence = last.sequence if last else 0
                cycles[cycle.engine.name] = _standing(cycle, row.state, now, sequence)
        traits = profile.values(profile.decode(summary.profile))
        return Contact(contact, summary.workspace, names, traits, bool(waiting), cycles, now, *touches(found))

    async def explain(self, workspace: str, who: str, at: int | None, cycle: str | None) -> Explained:
        """Fold a contact once more with a recorder, up to an instant. Raises NotFound."""
        instant = SystemClock().now() if at is None else at
        async with self._session.acquire() as connection, unit_of_work(connection):
            live = [c for c in await self._catalogue.folding(connection) if c.live and not c.of_accounts]
            chosen = [c for c in live if cycle in (None, c.engine.name)]
            if not chosen:
                raise NotFound(f"no cycle {cycle!r}; there are {', '.join(c.engine.name for c in live)}")
            contact = await contacts.get(connection, workspace, who)
            (found,) = (await history.after(connection, {contact: None})).values()
        explained = {}
        for one in chosen:
            explanation = explain(one, found.occurrences(one, None)[0], instant)
            if explanation is not None:
                explained[one.engine.name] = explanation
        return Explained(contact, instant, explained)


def _standing(cycle: Cycle, raw: bytes, now: int, sequence: int) -> Standing:
    engine = cycle.engine
    view = state.decode(raw, engine.atoms)
    advance(engine, view, now, [])
    here = position(engine, view)
    scores = dict(zip(engine.score_names, engine.values_at(view, now), strict=True))
    axes = dict(zip(engine.axis_names, here.places, strict=True))
    return Standing(here.stage, axes, here.dormant, here.instance, scores, sequence)
