"""Conditions of a cycle evaluate equally in the fold and in the orchestrator."""

from collections.abc import Iterator
from typing import Any

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from libs.common.conditions import Condition
from libs.common.decay import FOREVER
from libs.common.ids import ContactId
from services.orchestrator.domain.condition_evaluator import compile_condition
from services.orchestrator.domain.contact_facts import ContactFacts, CycleFacts, DecayingScore
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.condition_nodes import ConditionNode
from services.scoring.domain.cycle_compiler import compile_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.domain.fold import fold
from services.scoring.domain.fold_state import FoldState
from services.scoring.domain.signal_classifier import FoldEvent
from tests.support.cycle_strategies import SPAN, histories, specs


def conditions_of(compiled: CompiledCycle) -> Iterator[tuple[Condition, ConditionNode]]:
    spec = compiled.spec
    assert compiled.dormant is not None
    yield spec.dormant, compiled.dormant
    for axis, rule in zip(spec.axes, compiled.axes, strict=True):
        for stage, stage_rule in zip(axis.stages, rule.places, strict=True):
            for condition, node in (
                (stage.enter, stage_rule.enter),
                (stage.stay, stage_rule.stay),
            ):
                if condition is not None and node is not None:
                    yield condition, node


def known_traits(compiled: CompiledCycle, event: FoldEvent) -> FoldEvent:
    """Return the event with only the traits that the cycle uses, as the classifier does."""
    traits = {name: value for name, value in event.traits.items() if name in compiled.trait_names}
    return msgspec.structs.replace(event, traits=traits)


def facts_of(compiled: CompiledCycle, state: FoldState, events: list[FoldEvent]) -> ContactFacts:
    """Return the facts that plays see of a contact with this history."""
    names = [signal.name for signal in compiled.signals]
    signals: dict[str, list[int]] = {}
    for event in events:
        for number in event.signals:
            signals.setdefault(names[number], []).append(event.at)
    scores = {
        name: DecayingScore(state.values[number], state.as_of[number], compiled.half_lives[number])
        for number, name in enumerate(compiled.score_names)
    }
    ladders = {axis.name: [stage.name for stage in axis.places] for axis in compiled.axes}
    axes = {axis.name: ladders[axis.name][state.places[axis.number]] for axis in compiled.axes}
    position = CycleFacts(
        compiled.engagement_stage(state), axes=axes, scores=scores, ladders=ladders
    )
    traits: dict[str, Any] = {
        name: state.traits[slot]
        for slot, name in enumerate(compiled.trait_names)
        if state.traits[slot] is not None
    }
    return ContactFacts(
        ContactId("c"),
        traits=traits,
        standings={"engagement": position},
        signals=signals,
        last_act=state.seen[0] if state.seen[0] >= 0 else None,
    )


@given(specs(), histories(), st.lists(st.integers(0, 2 * SPAN), min_size=1, max_size=8))
def test_condition_is_equal_in_fold_and_facts(raw, events, delays):
    compiled = compile_cycle(parse_cycle_spec(yaml.safe_dump(raw), "random"))
    state = compiled.initial_state()
    events = [known_traits(compiled, event) for event in events]
    fold(compiled, state, events)
    if state.is_empty:
        return

    facts = facts_of(compiled, state, events)

    for condition, node in conditions_of(compiled):
        evaluate = compile_condition(condition)
        for delay in delays:
            instant = state.key[0] + delay
            expected, actual = node.horizon(state, instant), evaluate(facts, instant)

            assert (actual > 0) is (expected > 0), (condition.written, instant)
            for horizon in (abs(expected), abs(actual)):
                if instant < horizon < FOREVER:
                    assert (node.horizon(state, horizon - 1) > 0) is (expected > 0)
                    assert (evaluate(facts, horizon - 1) > 0) is (expected > 0)


@given(specs())
def test_conditions_serialize_as_written(raw):
    spec = parse_cycle_spec(yaml.safe_dump(raw), "random")

    assert spec.dormant.written == raw["dormant"]
    for axis, raw_axis in zip(spec.axes, raw["axes"], strict=True):
        for stage, raw_stage in zip(axis.stages, raw_axis["stages"], strict=True):
            dumped = stage.model_dump(mode="json")
            assert dumped["enter"] == raw_stage.get("enter")
            assert dumped["stay"] == raw_stage.get("stay")
