"""What a contact enters a play on: something that was published, or a moment that has come for it.

A timed trigger gives each contact an occasion of its own. Its id says which silence, which date it was:
so it starts its play once, however often somebody looks.
"""

from datetime import date as day_of
from datetime import datetime, time
from typing import Any

import msgspec

from libs.common import ids
from libs.common.instants import DAY, from_datetime, from_iso, to_iso
from libs.common.messages import CompellingEvent, Signal, StageChange
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.local_time import load_time_zone
from services.orchestrator.domain.local_time import local_instant as instant_at
from services.orchestrator.domain.play import DateTrigger, SilenceTrigger
from services.orchestrator.domain.play_program import PlayProgram

TriggerEvent = Signal | StageChange | CompellingEvent


class EntryCause(msgspec.Struct, frozen=True):
    """Why a contact may enter: `id` is the cause, `at` its instant (µs UTC), `told` what templates may say of it."""

    id: str
    workspace: str
    at: int
    told: dict[str, Any] = {}
    of_many: bool = False
    """One cause for many contacts."""


def cause_from_event(event: TriggerEvent) -> EntryCause:
    """Return the occasion that an event is."""
    of_many = isinstance(event, CompellingEvent) and event.contact_id is None
    return EntryCause(event.id, event.workspace, event.occurred_at, _told(event), of_many)


def cause_if_due(
    program: PlayProgram, workspace: str, facts: ContactFacts, now: int
) -> EntryCause | None:
    """Return the occasion that the time is for a contact, None if it is none; one longer ago than `max_age` is none."""
    found = next_timed_cause(program, workspace, facts)
    return (
        found if found is not None and found.at <= now <= found.at + program.play.max_age else None
    )


def next_timed_cause(
    program: PlayProgram, workspace: str, facts: ContactFacts
) -> EntryCause | None:
    """Return the occasion that a moment is, was or will be for a contact, by what is known now."""
    trigger, found = program.play.trigger, None
    if trigger.schedule is not None:
        return cause_from_schedule(program, workspace, trigger.schedule)
    if trigger.silence is not None:
        found = _silence(trigger.silence, facts)
    elif trigger.date is not None:
        found = _date(trigger.date, facts)
    if found is None:
        return None
    cause, at, told = found
    return EntryCause(
        ids.derive_id("moment", workspace, facts.contact_id, cause), workspace, at, told
    )


def cause_from_schedule(program: PlayProgram, workspace: str, when: datetime) -> EntryCause:
    """Return the occasion that is the same for everybody."""
    at = from_datetime(when)
    cause = ids.derive_id("schedule", workspace, program.play.play, str(at))
    return EntryCause(cause, workspace, at, {"occurred_at": at}, of_many=True)


def _silence(wanted: SilenceTrigger, facts: ContactFacts) -> tuple[str, int, dict[str, Any]] | None:
    last = facts.last_act if wanted.of == "any" else facts.last_seen(wanted.of)
    if last is None:
        return None
    return (
        f"silence:{wanted.of}:{last}",
        last + wanted.for_,
        {"silent_since": to_iso(last), "occurred_at": last + wanted.for_},
    )


def _date(wanted: DateTrigger, facts: ContactFacts) -> tuple[str, int, dict[str, Any]] | None:
    given = facts.traits.get(wanted.trait)
    try:
        if not isinstance(given, str):
            return None
        plain = len(given) == len("2026-01-31")
        date = (
            instant_at(day_of.fromisoformat(given), time(0), load_time_zone(facts.time_zone))
            if plain
            else from_iso(given)
        )
    except (ValueError, OverflowError):
        return None
    told = {"date": given, "days_left": wanted.before // DAY, "occurred_at": date - wanted.before}
    return f"date:{wanted.trait}:{given}", date - wanted.before, told


def _told(event: TriggerEvent) -> dict[str, Any]:
    """Return what templates may say of an event."""
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
