"""`perigee contact show`: a contact's timeline, scores, stages, and why."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from libs.common.clock import SystemClock
from libs.common.db.connection import Connection, connect
from libs.common.errors import PerigeeError
from libs.common.instants import to_datetime
from libs.common.messages import Touchpoint
from services.scoring.domain import fold_state
from services.scoring.domain.campaign_touch import first_and_last_touch
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold import advance, current_position
from services.scoring.domain.move import Move
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry
from services.scoring.repository import (
    contacts,
    fold_states,
    market_touchpoints,
    touchpoint_history,
)

SHOWN = 40


async def print_story(database_url: str, workspace: str, who: str, console: Console) -> None:
    """Print one contact. Raises PerigeeError when nobody is known by `who`."""
    connection = await connect(database_url, application="perigee-show")
    try:
        contact = await contacts.find_contact(connection, workspace, who)
        if contact is None:
            raise PerigeeError(f"no contact has the id, e-mail or user_id {who!r}")
        await _print(connection, contact, console)
    finally:
        await connection.close()


async def _print(connection: Connection, contact: str, console: Console) -> None:
    (summary,) = await contacts.get_summaries(connection, [contact])
    found = (await touchpoint_history.list_all_touchpoints(connection, [contact]))[contact]
    waiting = await fold_states.get_queued_refolds(connection, [contact])
    console.print(
        f"contact {contact}" + (" (refolding: its stages follow shortly)" if waiting else "")
    )
    console.print(
        f"  users {summary.user_ids or '-'}, devices {summary.anonymous_ids or '-'}",
        highlight=False,
    )
    held = await fold_states.get_states(connection, [contact])
    for cycle in await DatabaseCycleRegistry().get_active_cycles(connection):
        row = held.get((contact, cycle.engine.fold))
        if row is None or not cycle.live:
            continue
        _print_now(cycle, row.state, console)
        moves = await fold_states.list_open_moves(connection, {(contact, cycle.engine.fold): 0})
        console.print(_journey(cycle, [m.move for m in moves[contact, cycle.engine.fold]], found))
    for name, touch in zip(("first", "last"), first_and_last_touch(found), strict=True):
        if touch is not None:
            campaign = f", campaign {touch.campaign}" if touch.campaign else ""
            console.print(
                f"  {name} touch: {_when(touch.at)} {touch.channel or 'other'}{campaign}",
                highlight=False,
            )
    beside = (
        await market_touchpoints.list_overlapping(
            connection, contact, found[0].occurred_at, SystemClock().now()
        )
        if found
        else []
    )
    console.print(_timeline(sorted([*found, *beside], key=lambda t: t.key)))


def _print_now(cycle: ActiveCycle, raw: bytes, console: Console) -> None:
    """Print where the contact stands at this moment: the stored fold, advanced to the wall clock without writing."""
    now = SystemClock().now()
    view = fold_state.decode_state(raw, cycle.engine.atoms)
    advance(cycle.engine, view, now, [])
    here = current_position(cycle.engine, view)
    places = ", ".join(
        f"{axis.name} {place}" for axis, place in zip(cycle.engine.axes, here.places, strict=True)
    )
    label = next(
        s.label.get("en", s.name) for s in cycle.engine.spec.stages if s.name == here.stage
    )
    console.print(
        f"  {cycle.engine.name}: [bold]{label}[/] ({places}{', dormant' if here.dormant else ''})"
    )
    values = cycle.engine.score_values_at(view, now)
    scores = ", ".join(
        f"{name} {value:.1f}" for name, value in zip(cycle.engine.score_names, values, strict=True)
    )
    console.print(f"  scores now: {scores}", highlight=False)


def _journey(cycle: ActiveCycle, moves: Sequence[Move], found: Sequence[Touchpoint]) -> Table:
    names = {t.key: t.name or t.type for t in found}
    table = Table("when", "stage", "axes", "why", title="stages")
    for move in moves[-SHOWN:]:
        before, after = move.before, move.after
        stage = (
            after.stage
            if before is None or before.stage == after.stage
            else f"{before.stage} → {after.stage}"
        )
        if after.dormant and not (before and before.dormant):
            stage += ", falls dormant"
        why = (
            "time passed"
            if move.timed
            else names.get((move.at, move.source, move.message_id), move.message_id)
        )
        scores = ", ".join(
            f"{name} {value:.1f}"
            for name, value in zip(cycle.engine.score_names, move.values, strict=True)
            if value
        )
        table.add_row(
            _when(move.at), stage, ", ".join(after.places), f"{why} ({scores})" if scores else why
        )
    return table


def _timeline(found: Sequence[Touchpoint]) -> Table:
    shown = found[-SHOWN:]
    title = f"touchpoints ({len(found)}" + (f", the last {SHOWN})" if len(found) > SHOWN else ")")
    table = Table("when", "what", "source", "campaign", "by", title=title)
    for t in shown:
        campaign = t.campaign.get("source", "")
        table.add_row(_when(t.occurred_at), f"{t.type} {t.name}", t.source, campaign, t.initiative)
    return table


def _when(instant: int) -> str:
    return to_datetime(instant).strftime("%Y-%m-%d %H:%M:%S")
