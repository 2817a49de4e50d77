"""What people do that is a reason to act now: signals and places on an axis that a cycle marks with `raises`."""

from collections.abc import Sequence

from libs.common import ids
from libs.common.instants import from_iso
from libs.common.messages import Touchpoint
from libs.common.messages.stage_change import ORDINARY_REASONS
from services.scoring.domain.compelling_event import TrackedEvent
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.cycle_spec import CompellingEventSpec
from services.scoring.domain.publication import PlannedChange


def events_from_signals(
    engine: CompiledCycle, contact_id: str, touchpoint: Touchpoint, numbers: Sequence[int]
) -> list[TrackedEvent]:
    """Return the events that a touchpoint's signals raise; history raises none."""
    if touchpoint.mode == "historical":
        return []
    found = []
    for name in (engine.signals[number].name for number in numbers):
        mark = engine.spec.signals[name].raises
        if mark is not None:
            cause = ids.derive_id(
                "signal",
                touchpoint.workspace,
                touchpoint.source,
                touchpoint.message_id,
                engine.name,
                name,
            )
            date = _date(touchpoint, mark)
            found.append(
                _event(mark, touchpoint.workspace, contact_id, cause, date, touchpoint.properties)
            )
    return found


def events_from_change(
    engine: CompiledCycle, workspace: str, contact_id: str, change: PlannedChange
) -> list[TrackedEvent]:
    """Return the events that a contact's move raises: an axis came to a place that the cycle marks, for an ordinary reason."""
    if change.reason not in ORDINARY_REASONS:
        return []
    before = change.before.places if change.before else []
    found = []
    for axis, place in zip(engine.spec.axes, change.after.places, strict=True):
        was = (
            before[engine.axis_names.index(axis.name)]
            if len(before) == len(engine.axis_names)
            else None
        )
        mark = next((stage.raises for stage in axis.stages if stage.name == place), None)
        if mark is not None and was != place:
            cause = ids.derive_id(
                "stage-change", contact_id, engine.name, str(change.sequence), axis.name
            )
            found.append(_event(mark, workspace, contact_id, cause, None, {}))
    return found


def _event(
    mark: CompellingEventSpec,
    workspace: str,
    contact: str,
    cause: str,
    date: int | None,
    properties: dict[str, object],
) -> TrackedEvent:
    return TrackedEvent(
        cause,
        workspace,
        mark.kind,
        "contact",
        contact,
        date,
        mark.owner,
        mark.consequence,
        cause=cause,
        properties=properties,
    )


def _date(touchpoint: Touchpoint, mark: CompellingEventSpec) -> int | None:
    """Return the date that a property names; nothing where it names none that is to come."""
    given = touchpoint.properties.get(mark.date) if mark.date else None
    try:
        date = from_iso(given) if isinstance(given, str) else None
    except ValueError:
        return None
    return date if date is not None and date > touchpoint.received_at else None
