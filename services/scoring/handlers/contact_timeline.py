"""A contact's timeline: where it stands now, its stage changes with their causes, its touchpoints.

Nothing is written.
"""

from collections.abc import Mapping, Sequence

import msgspec

from libs.common.clock import SystemClock
from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.ids import ContactId, WorkspaceId
from libs.common.messages import Touchpoint
from services.scoring.domain.campaign_touch import CampaignTouch, first_and_last_touch
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold import advance, current_position
from services.scoring.domain.move import Move
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.repository import (
    contacts,
    fold_states,
    market_touchpoints,
    touchpoint_history,
)
from services.scoring.repository.fold_rows import FoldKey

Causes = Mapping[tuple[int, str, str], str]
"""{(instant, source, message id): name of the touchpoint}"""


class TimelineMove(msgspec.Struct, frozen=True):
    """One stage change; `at` in µs UTC.

    `before` is None for the entry, `cause` for a change by the passing of time.
    """

    at: int
    before: str | None
    after: str
    axes: list[str]
    dormant: bool
    was_dormant: bool
    cause: str | None
    scores: dict[str, float]


class TimelineCycle(msgspec.Struct, frozen=True):
    """Position in a cycle now, and the changes that led to it, oldest first."""

    stage: str
    label: str
    axes: dict[str, str]
    dormant: bool
    scores: dict[str, float]
    moves: list[TimelineMove]


class TimelineTouchpoint(msgspec.Struct, frozen=True):
    """One touchpoint; `at` in µs UTC."""

    at: int
    type: str
    name: str
    source: str
    campaign: str
    initiative: str


class ContactTimeline(msgspec.Struct, frozen=True):
    """A contact as its story reads; `touchpoints` are the newest, `touchpoint_count` is of all."""

    contact_id: ContactId
    refolding: bool
    user_ids: list[str]
    anonymous_ids: list[str]
    cycles: dict[str, TimelineCycle]
    first_touch: CampaignTouch | None
    last_touch: CampaignTouch | None
    touchpoint_count: int
    touchpoints: list[TimelineTouchpoint]


class ContactTimelineService:
    """Reads timelines.

    Every stored touchpoint of the contact is read, the answer is bounded by `limit`.
    """

    def __init__(self, session: Session, catalogue: CycleRegistry) -> None:
        self._session = session
        self._catalogue = catalogue

    async def get_timeline(
        self, workspace: WorkspaceId, reference: str, limit: int
    ) -> ContactTimeline:
        """Return a contact's timeline with at most `limit` touchpoints and moves of each cycle.

        Raises NotFound.
        """
        now = SystemClock().now()
        async with self._session.acquire() as connection, unit_of_work(connection):
            cycles = await self._catalogue.lock_active_cycles(connection)
            contact = await contacts.get_contact_id(connection, workspace, reference)
            (summary,) = await contacts.get_summaries(connection, [contact])
            history = (await touchpoint_history.list_all_touchpoints(connection, [contact]))[
                contact
            ]
            refolding = await fold_states.get_queued_refolds(connection, [contact])
            states = await fold_states.get_states(connection, [contact])
            shown = {
                cycle.engine.name: (cycle, states[FoldKey(contact, cycle.engine.fold)].state)
                for cycle in cycles
                if cycle.live and (contact, cycle.engine.fold) in states
            }
            moves = await fold_states.list_open_moves(
                connection, {FoldKey(contact, cycle.engine.fold): 0 for cycle, _ in shown.values()}
            )
            outside = (
                await market_touchpoints.list_for_contact_between(
                    connection, contact, history[0].occurred_at, now
                )
                if history
                else []
            )
        causes = {touchpoint.key: touchpoint.name or touchpoint.type for touchpoint in history}
        every = sorted([*history, *outside], key=lambda touchpoint: touchpoint.key)
        return ContactTimeline(
            contact,
            bool(refolding),
            summary.user_ids,
            summary.anonymous_ids,
            {
                name: _cycle(
                    cycle,
                    state,
                    now,
                    [row.move for row in moves[FoldKey(contact, cycle.engine.fold)]][-limit:],
                    causes,
                )
                for name, (cycle, state) in shown.items()
            },
            *first_and_last_touch(history),
            len(every),
            [_touchpoint(touchpoint) for touchpoint in every[-limit:]],
        )


def _cycle(
    cycle: ActiveCycle, state: bytes, now: int, moves: Sequence[Move], causes: Causes
) -> TimelineCycle:
    """Return the stored fold advanced to `now`, without writing it."""
    engine = cycle.engine
    view = engine.decode_state(state)
    advance(engine, view, now, [])
    position = current_position(engine, view)
    label = next(
        stage.label.get("en", stage.name)
        for stage in engine.spec.stages
        if stage.name == position.stage
    )
    return TimelineCycle(
        position.stage,
        label,
        dict(zip(engine.axis_names, position.places, strict=True)),
        position.dormant,
        dict(zip(engine.score_names, engine.score_values_at(view, now), strict=True)),
        [_move(cycle, move, causes) for move in moves],
    )


def _move(cycle: ActiveCycle, move: Move, causes: Causes) -> TimelineMove:
    before, after = move.before, move.after
    key = (move.at, move.source, move.message_id)
    return TimelineMove(
        move.at,
        None if before is None else before.stage,
        after.stage,
        after.places,
        after.dormant,
        before is not None and before.dormant,
        None if move.timed else causes.get(key, move.message_id),
        dict(zip(cycle.engine.score_names, move.values, strict=True)),
    )


def _touchpoint(touchpoint: Touchpoint) -> TimelineTouchpoint:
    return TimelineTouchpoint(
        touchpoint.occurred_at,
        touchpoint.type,
        touchpoint.name,
        touchpoint.source,
        touchpoint.campaign.get("source", ""),
        touchpoint.initiative,
    )
