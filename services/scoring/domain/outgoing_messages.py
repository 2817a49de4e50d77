"""What is told to others: stage changes, signals, the contact's snapshot, each with its deterministic id."""

from collections.abc import Sequence
from typing import Any

from libs.common import ids
from libs.common.messages import (
    AccountStageChange,
    AxisChange,
    Cause,
    Message,
    Signal,
    StageChange,
    StageMove,
    Touchpoint,
    build_message,
)
from libs.common.messages.contact import ContactSnapshot, CycleState
from services.scoring.domain import correction
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.move import Move, Position
from services.scoring.domain.publication import (
    PlannedChange,
    PublishedPosition,
    direction_by_distance,
)

SOURCE = "/scoring"


def stage_change_message(
    engine: CompiledCycle,
    workspace: str,
    contact_id: str,
    change: PlannedChange,
    identifiers: Sequence[str] = (),
    trace: bytes | None = None,
) -> Message:
    """Return the message of a contact's change, with what the contact is known by."""
    said = _said(engine, workspace, contact_id, change)
    crm = _crm(engine, change.after.stage)
    model = StageChange(contact_id=contact_id, identifiers=[*identifiers], crm=crm, **said)
    return _composed(model, contact_id, trace)


def account_stage_change_message(
    engine: CompiledCycle, workspace: str, account_id: str, group_id: str, change: PlannedChange
) -> Message:
    """Return the message of an account's change."""
    model = AccountStageChange(
        account_id=account_id, group_id=group_id, **_said(engine, workspace, account_id, change)
    )
    return _composed(model, account_id)


def _composed(
    model: StageChange | AccountStageChange, key: str, trace: bytes | None = None
) -> Message:
    at, why = model.occurred_at, model.reason
    return build_message(
        model, key=key, message_id=model.id, source=SOURCE, time=at, reason=why, trace=trace
    )


def _said(
    engine: CompiledCycle, workspace: str, subject: str, change: PlannedChange
) -> dict[str, Any]:
    """Return what contacts' and accounts' changes have in common."""
    move, before, after = change.move, change.before, change.after
    return {
        "id": ids.derive_id("stage-change", subject, engine.name, str(change.sequence)),
        "workspace": workspace,
        "cycle": engine.name,
        "cycle_version": engine.version,
        "sequence": change.sequence,
        "occurred_at": move.at,
        "direction": change.direction,
        "stage": StageMove(before.stage if before else None, after.stage),
        "axes": _axes(engine, before, after),
        "dormant": after.dormant,
        "instance": after.instance,
        "reason": change.reason,
        "cause": _cause(move),
        "values": dict(zip(engine.score_names, move.values, strict=True)),
    }


def _crm(engine: CompiledCycle, stage: str) -> dict[str, str]:
    """Return what other systems call a stage."""
    return next((one.crm_map for one in engine.spec.stages if one.name == stage), {})


def _cause(move: Move) -> Cause:
    if move.timed:
        return Cause("time", move.at)
    return Cause(
        "correction" if move.source == correction.SOURCE else "touchpoint",
        move.at,
        move.source,
        move.message_id,
    )


def _axes(engine: CompiledCycle, before: Position | None, after: Position) -> dict[str, AxisChange]:
    changes = {}
    for axis, place in zip(engine.axes, after.places, strict=True):
        names = [p.name for p in axis.places]
        if before is None:
            changes[axis.name] = AxisChange(None, place, "entry")
            continue
        old = before.places[axis.number] if axis.number < len(before.places) else None
        if old in names:
            changes[axis.name] = AxisChange(
                old, place, direction_by_distance(names.index(place) - names.index(old))
            )
        else:  # what an earlier version called it means nothing here
            changes[axis.name] = AxisChange(None, place, "lateral")
    return changes


def signal_messages(
    engine: CompiledCycle,
    contact_id: str,
    touchpoint: Touchpoint,
    numbers: Sequence[int],
    trace: bytes | None = None,
) -> list[Message]:
    """Return the messages of the touchpoint's published signals."""
    return [
        _signal(engine, contact_id, touchpoint, rule.name, trace)
        for rule in (engine.signals[number] for number in numbers)
        if rule.publish
    ]


def _signal(
    engine: CompiledCycle, contact_id: str, t: Touchpoint, name: str, trace: bytes | None
) -> Message:
    model = Signal(
        id=ids.derive_id("signal", t.workspace, t.source, t.message_id, engine.name, name),
        workspace=t.workspace,
        contact_id=contact_id,
        cycle=engine.name,
        signal=name,
        occurred_at=t.occurred_at,
        received_at=t.received_at,
        source=t.source,
        message_id=t.message_id,
        historical=t.mode == "historical",
        trust=t.trust,
        user_id=t.user_id,
        anonymous_id=t.anonymous_id,
        properties=t.properties,
    )
    reason = "history" if model.historical else ""
    at = t.occurred_at
    return build_message(
        model,
        key=contact_id,
        message_id=model.id,
        source=SOURCE,
        time=at,
        reason=reason,
        trace=trace,
    )


def cycle_state(engine: CompiledCycle, published: PublishedPosition) -> CycleState:
    """Return a published position as the snapshot shows it."""
    position = published.position
    axes = dict(zip(engine.axis_names, position.places, strict=True))
    crm = _crm(engine, position.stage)
    return CycleState(
        position.stage, axes, position.dormant, position.instance, published.sequence, crm
    )


def snapshot_message(model: ContactSnapshot, time: int) -> Message:
    """Return the message of a contact's snapshot."""
    message_id = ids.derive_id("contact", model.contact_id, str(model.version))
    return build_message(
        model, key=model.contact_id, message_id=message_id, source=SOURCE, time=time
    )


def tombstone_message(contact_id: str) -> Message:
    """Return what ends a merged contact's life on the compacted topic."""
    return Message(ContactSnapshot.TOPIC, contact_id.encode(), None, [])
