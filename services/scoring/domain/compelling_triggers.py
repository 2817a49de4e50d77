"""Compelling events that a contact's own behaviour raises.

The triggers are the signals and axis stages that a cycle marks with `raises`.
"""

from collections.abc import Sequence

from libs.common import ids
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import from_iso
from libs.common.messages import Touchpoint
from libs.common.messages.stage_change import ORDINARY_REASONS
from services.scoring.domain.compelling_event import TrackedEvent
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.cycle_spec import CompellingEventSpec
from services.scoring.domain.publication import PlannedChange


def events_from_signals(
    cycle: CompiledCycle, contact_id: ContactId, touchpoint: Touchpoint, numbers: Sequence[int]
) -> list[TrackedEvent]:
    """Return the events that a touchpoint's signals raise, by signal number.

    Historical touchpoints raise none. The event's id is that of the published signal, hence the
    same on every run.
    """
    if touchpoint.mode == "historical":
        return []
    events = []
    for name in (cycle.signals[number].name for number in numbers):
        trigger = cycle.spec.signals[name].raises
        if trigger is not None:
            cause = ids.derive_id(
                "signal",
                touchpoint.workspace,
                touchpoint.source,
                touchpoint.message_id,
                cycle.name,
                name,
            )
            date = _event_date(touchpoint, trigger)
            events.append(
                _event(
                    trigger, touchpoint.workspace, contact_id, cause, date, touchpoint.properties
                )
            )
    return events


def events_from_change(
    cycle: CompiledCycle, workspace: WorkspaceId, contact_id: ContactId, change: PlannedChange
) -> list[TrackedEvent]:
    """Return the events that a stage change raises.

    An axis raises one when it newly reaches a stage with `raises`, for an ordinary reason only.
    """
    if change.reason not in ORDINARY_REASONS:
        return []
    stages_before = change.before.places if change.before else []
    events = []
    for axis, stage_name in zip(cycle.spec.axes, change.after.places, strict=True):
        name_before = (
            stages_before[cycle.axis_names.index(axis.name)]
            if len(stages_before) == len(cycle.axis_names)
            else None
        )
        trigger = next((stage.raises for stage in axis.stages if stage.name == stage_name), None)
        if trigger is not None and name_before != stage_name:
            cause = ids.derive_id(
                "stage-change", contact_id, cycle.name, str(change.sequence), axis.name
            )
            events.append(_event(trigger, workspace, contact_id, cause, None, {}))
    return events


def _event(
    trigger: CompellingEventSpec,
    workspace: WorkspaceId,
    contact: ContactId,
    cause: str,
    date: int | None,
    properties: dict[str, object],
) -> TrackedEvent:
    return TrackedEvent(
        cause,
        workspace,
        trigger.kind,
        "contact",
        contact,
        date,
        trigger.owner,
        trigger.consequence,
        cause=cause,
        properties=properties,
    )


def _event_date(touchpoint: Touchpoint, trigger: CompellingEventSpec) -> int | None:
    """Return the instant (µs) in the property that the trigger names; None unless in the future.

    The future begins at `received_at`; a missing property or text that is no date gives None.
    """
    text = touchpoint.properties.get(trigger.date) if trigger.date else None
    try:
        date = from_iso(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return date if date is not None and date > touchpoint.received_at else None
