"""Entry causes: a published event, or an instant that a timed trigger derives for a contact.

A timed trigger gives each contact its own cause. The cause's id is derived from the silence or the
date, so that it starts its play once, however often it is evaluated.
"""

from datetime import date as day_of
from datetime import datetime, time
from typing import Any

import msgspec

from libs.common import ids
from libs.common.ids import WorkspaceId
from libs.common.instants import DAY, from_datetime, from_iso, to_iso
from libs.common.messages import CompellingEvent, Signal, StageChange
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.local_time import load_time_zone, local_instant
from services.orchestrator.domain.play import DateTrigger, SilenceTrigger
from services.orchestrator.domain.play_program import PlayProgram

TriggerEvent = Signal | StageChange | CompellingEvent


class EntryCause(msgspec.Struct, frozen=True, rename={"event": "told"}):
    """A cause of entry at an instant (µs UTC), with its `event` data for templates.

    Sweeps store it as JSON, with `event` under the name `told`.
    """

    id: str
    workspace: WorkspaceId
    at: int
    event: dict[str, Any] = {}
    of_many: bool = False
    """Whether the same cause applies to many contacts."""


def cause_from_event(event: TriggerEvent) -> EntryCause:
    """Return the cause for a published event."""
    of_many = isinstance(event, CompellingEvent) and event.contact_id is None
    return EntryCause(event.id, event.workspace, event.occurred_at, _event_data(event), of_many)


def cause_if_due(
    program: PlayProgram, workspace: WorkspaceId, facts: ContactFacts, now: int
) -> EntryCause | None:
    """Return the timed cause that is due for a contact and not older than `max_age`, or None."""
    cause = next_timed_cause(program, workspace, facts)
    return (
        cause if cause is not None and cause.at <= now <= cause.at + program.play.max_age else None
    )


def next_timed_cause(
    program: PlayProgram, workspace: WorkspaceId, facts: ContactFacts
) -> EntryCause | None:
    """Return the past or future timed cause for a contact, by the facts as of now."""
    trigger, timed = program.play.trigger, None
    if trigger.schedule is not None:
        return cause_from_schedule(program, workspace, trigger.schedule)
    if trigger.silence is not None:
        timed = _silence_cause(trigger.silence, facts)
    elif trigger.date is not None:
        timed = _date_cause(trigger.date, facts)
    if timed is None:
        return None
    key, at, event = timed
    return EntryCause(
        ids.derive_id("moment", workspace, facts.contact_id, key), workspace, at, event
    )


def cause_from_schedule(program: PlayProgram, workspace: WorkspaceId, when: datetime) -> EntryCause:
    """Return the cause of a schedule, which is the same for all contacts."""
    at = from_datetime(when)
    cause_id = ids.derive_id("schedule", workspace, program.play.play, str(at))
    return EntryCause(cause_id, workspace, at, {"occurred_at": at}, of_many=True)


def _silence_cause(
    trigger: SilenceTrigger, facts: ContactFacts
) -> tuple[str, int, dict[str, Any]] | None:
    """Return (key, instant, event data) of the silence since the last act or signal."""
    last = facts.last_act if trigger.of == "any" else facts.last_seen(trigger.of)
    if last is None:
        return None
    return (
        f"silence:{trigger.of}:{last}",
        last + trigger.for_,
        {"silent_since": to_iso(last), "occurred_at": last + trigger.for_},
    )


def _date_cause(
    trigger: DateTrigger, facts: ContactFacts
) -> tuple[str, int, dict[str, Any]] | None:
    """Return (key, instant, event data) of a date among the traits."""
    text = facts.traits.get(trigger.trait)
    try:
        if not isinstance(text, str):
            return None
        is_plain_date = len(text) == len("2026-01-31")
        date = (
            local_instant(day_of.fromisoformat(text), time(0), load_time_zone(facts.time_zone))
            if is_plain_date
            else from_iso(text)
        )
    except (ValueError, OverflowError):
        return None
    at = date - trigger.before
    event = {"date": text, "days_left": trigger.before // DAY, "occurred_at": at}
    return f"date:{trigger.trait}:{text}", at, event


def _event_data(event: TriggerEvent) -> dict[str, Any]:
    """Return the data of an event for templates."""
    if isinstance(event, Signal):
        return {
            "signal": event.signal,
            "properties": event.properties,
            "occurred_at": event.occurred_at,
        }
    if isinstance(event, CompellingEvent):
        return {
            "event_id": event.event_id,
            "kind": event.kind,
            "scope": event.scope,
            "date": to_iso(event.date)[:10] if event.date is not None else None,
            "days_left": event.left // DAY if event.left is not None else None,
            "owner": event.owner,
            "consequence": event.consequence,
            "properties": event.properties,
            "occurred_at": event.occurred_at,
        }
    return {
        "cycle": event.cycle,
        "from": event.stage.from_,
        "to": event.stage.to,
        "direction": event.direction,
        "occurred_at": event.occurred_at,
    }
