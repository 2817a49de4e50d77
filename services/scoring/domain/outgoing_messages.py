"""Outgoing messages: stage changes, signals and contact snapshots, with deterministic ids.

A message that is built again has the same id, so that subscribers can drop repeats by id.
"""

from collections.abc import Sequence
from typing import Any

from libs.common import ids
from libs.common.ids import ContactId, WorkspaceId
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
    cycle: CompiledCycle,
    workspace: WorkspaceId,
    contact_id: ContactId,
    change: PlannedChange,
    identifiers: Sequence[str] = (),
    trace: bytes | None = None,
) -> Message:
    """Return the message of a contact's stage change; `identifiers` are the contact's own.

    `trace` is the W3C trace context of the cause.
    """
    fields = _common_fields(cycle, workspace, contact_id, change)
    crm = _crm_names(cycle, change.after.stage)
    model = StageChange(contact_id=contact_id, identifiers=[*identifiers], crm=crm, **fields)
    return _build(model, contact_id, trace)


def account_stage_change_message(
    cycle: CompiledCycle,
    workspace: WorkspaceId,
    account_id: str,
    group_id: str,
    change: PlannedChange,
) -> Message:
    """Return the message of an account's stage change; `group_id` is the source's own id of it."""
    fields = _common_fields(cycle, workspace, account_id, change)
    model = AccountStageChange(account_id=account_id, group_id=group_id, **fields)
    return _build(model, account_id)


def _build(
    model: StageChange | AccountStageChange, key: str, trace: bytes | None = None
) -> Message:
    return build_message(
        model,
        key=key,
        message_id=model.id,
        source=SOURCE,
        time=model.occurred_at,
        reason=model.reason,
        trace=trace,
    )


def _common_fields(
    cycle: CompiledCycle, workspace: WorkspaceId, subject: str, change: PlannedChange
) -> dict[str, Any]:
    """Return the fields that stage changes of contacts and accounts share."""
    move, before, after = change.move, change.before, change.after
    return {
        "id": ids.derive_id("stage-change", subject, cycle.name, str(change.sequence)),
        "workspace": workspace,
        "cycle": cycle.name,
        "cycle_version": cycle.version,
        "sequence": change.sequence,
        "occurred_at": move.at,
        "direction": change.direction,
        "stage": StageMove(before.stage if before else None, after.stage),
        "axes": _axes(cycle, before, after),
        "dormant": after.dormant,
        "instance": after.instance,
        "reason": change.reason,
        "cause": _cause(move),
        "values": dict(zip(cycle.score_names, move.values, strict=True)),
    }


def _crm_names(cycle: CompiledCycle, stage_name: str) -> dict[str, str]:
    """Return the names of an engagement stage in CRMs, by system."""
    return next((stage.crm_map for stage in cycle.spec.stages if stage.name == stage_name), {})


def _cause(move: Move) -> Cause:
    if move.timed:
        return Cause("time", move.at)
    return Cause(
        "correction" if move.source == correction.SOURCE else "touchpoint",
        move.at,
        move.source,
        move.message_id,
    )


def _axes(cycle: CompiledCycle, before: Position | None, after: Position) -> dict[str, AxisChange]:
    """Return the change of every axis, the axes without one included."""
    changes = {}
    for axis, stage in zip(cycle.axes, after.places, strict=True):
        stages = [rule.name for rule in axis.places]
        if before is None:
            changes[axis.name] = AxisChange(None, stage, "entry")
            continue
        old = before.places[axis.number] if axis.number < len(before.places) else None
        if old in stages:
            changes[axis.name] = AxisChange(
                old, stage, direction_by_distance(stages.index(stage) - stages.index(old))
            )
        else:  # A stage of an earlier version has no position on this version's axis.
            changes[axis.name] = AxisChange(None, stage, "lateral")
    return changes


def signal_messages(
    cycle: CompiledCycle,
    contact_id: ContactId,
    touchpoint: Touchpoint,
    numbers: Sequence[int],
    trace: bytes | None = None,
) -> list[Message]:
    """Return the messages of the touchpoint's published signals; `numbers` are all its signals."""
    return [
        _signal(cycle, contact_id, touchpoint, rule.name, trace)
        for rule in (cycle.signals[number] for number in numbers)
        if rule.publish
    ]


def _signal(
    cycle: CompiledCycle, contact_id: ContactId, t: Touchpoint, name: str, trace: bytes | None
) -> Message:
    model = Signal(
        id=ids.derive_id("signal", t.workspace, t.source, t.message_id, cycle.name, name),
        workspace=t.workspace,
        contact_id=contact_id,
        cycle=cycle.name,
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


def cycle_state(cycle: CompiledCycle, published: PublishedPosition) -> CycleState:
    """Return a published position in the form of the contact snapshot."""
    position = published.position
    axes = dict(zip(cycle.axis_names, position.places, strict=True))
    crm = _crm_names(cycle, position.stage)
    return CycleState(
        position.stage, axes, position.dormant, position.instance, published.sequence, crm
    )


def snapshot_message(model: ContactSnapshot, time: int) -> Message:
    """Return the message of a contact snapshot; `time` is microseconds UTC."""
    message_id = ids.derive_id("contact", model.contact_id, str(model.version))
    return build_message(
        model, key=model.contact_id, message_id=message_id, source=SOURCE, time=time
    )


def tombstone_message(contact_id: ContactId) -> Message:
    """Return the tombstone that removes a merged contact from the compacted topic."""
    return Message(ContactSnapshot.TOPIC, contact_id.encode(), None, [])
