"""Conditions evaluated over the facts of a contact, for plays, segments and ad audiences.

As in the fold a condition evaluates at an instant t to a signed horizon: `+u` means true and
unchanged before u by the mere passing of time, `-u` false and unchanged before u. So `all` is
min, `any` is max, `not` is negation, and a waiting enrollment knows when to look again.
"""

from collections.abc import Callable, Mapping
from typing import Any

from libs.common.conditions import (
    AllCondition,
    AnyCondition,
    AxisCondition,
    CompellingCondition,
    Condition,
    ConditionModel,
    ConsentCondition,
    CountCondition,
    DormantCondition,
    IdleCondition,
    NotCondition,
    ScoreCondition,
    SeenCondition,
    SegmentCondition,
    SilentCondition,
    StageCondition,
    TraitCondition,
)
from libs.common.decay import FOREVER, find_crossing
from libs.common.instants import HOUR
from services.orchestrator.domain.contact_facts import ContactFacts

ConditionTest = Callable[[ContactFacts, int], int]
"""From a contact's facts and an instant (µs UTC) to the signed horizon."""
LastInstant = Callable[[ContactFacts], int | None]
EVER = FOREVER // 2
"""A window without an end."""
COSTLY_KINDS = frozenset(("idle", "compelling"))
"""Kinds whose facts are gathered only where a condition asks for them."""


def compile_condition(
    condition: Condition, segments: Mapping[str, Condition] | None = None
) -> ConditionTest:
    """Return the test of a condition.

    Raises ValueError for a segment that is not among `segments`, or that is defined by itself.
    """
    return _compile(condition, segments or {}, ())


def condition_holds(test: ConditionTest, facts: ContactFacts, now: int) -> bool:
    """Return whether a condition holds at an instant."""
    return test(facts, now) > 0


def get_segment(
    name: str, segments: Mapping[str, Condition], enclosing: tuple[str, ...]
) -> Condition:
    """Return a segment's condition; `enclosing` are the segments whose definition names it.

    Raises ValueError for an unknown segment and for one that is defined by itself.
    """
    if name in enclosing:
        raise ValueError(f"segment {name!r} is defined by itself")
    if name not in segments:
        known = ", ".join(sorted(segments)) or "none"
        raise ValueError(f"no segment {name!r}; there are {known}")
    return segments[name]


def _compile(
    condition: Condition, segments: Mapping[str, Condition], enclosing: tuple[str, ...]
) -> ConditionTest:
    match condition:
        case AllCondition():
            return _every([_compile(part, segments, enclosing) for part in condition.all])
        case AnyCondition():
            return _some([_compile(part, segments, enclosing) for part in condition.any])
        case NotCondition():
            return _negate(_compile(condition.not_, segments, enclosing))
        case SegmentCondition():
            name = condition.segment
            inner = get_segment(name, segments, enclosing)
            return _compile(inner, segments, (*enclosing, name))
        case _:
            return _COMPILERS[type(condition)](condition)


def _stage(condition: StageCondition) -> ConditionTest:
    cycle, stages = condition.cycle, condition.stages

    def test(facts: ContactFacts, _: int) -> int:
        position = facts.standings.get(cycle)
        return _sign(position is not None and position.stage in stages)

    return test


def _dormant(condition: DormantCondition) -> ConditionTest:
    cycle, dormant = condition.cycle, condition.dormant

    def test(facts: ContactFacts, _: int) -> int:
        position = facts.standings.get(cycle)
        return _sign(position is not None and position.dormant is dormant)

    return test


def _axis(condition: AxisCondition) -> ConditionTest:
    cycle, axis, stage = condition.cycle, condition.axis, condition.stage
    upward = condition.at_least is not None

    def test(facts: ContactFacts, _: int) -> int:
        position = facts.standings.get(cycle)
        ladder = position.ladders.get(axis, ()) if position else ()
        if position is None or stage not in ladder or position.axes.get(axis) not in ladder:
            return -FOREVER
        reached = ladder.index(position.axes[axis]) >= ladder.index(stage)
        return _sign(reached is upward)

    return test


def _score(condition: ScoreCondition) -> ConditionTest:
    cycle, name, threshold = condition.cycle, condition.score, condition.threshold
    upward = condition.at_least is not None

    def reached_until(facts: ContactFacts, t: int) -> int:
        position = facts.standings.get(cycle)
        score = position.scores.get(name) if position else None
        if score is None:
            return _sign(threshold < 0)
        elapsed = find_crossing(score.value, threshold, score.half_life)
        until = FOREVER if elapsed >= FOREVER else score.at + elapsed
        starts_reached = score.value >= threshold
        if t >= until:
            return _sign(not starts_reached)
        return until if starts_reached else -until

    return reached_until if upward else _negate(reached_until)


def _count(condition: CountCondition) -> ConditionTest:
    signal, at_least = condition.count, condition.at_least
    window = condition.within or EVER

    def test(facts: ContactFacts, t: int) -> int:
        instants = [at for at in facts.signals.get(signal, ()) if at <= t]
        if len(instants) < at_least:
            return -FOREVER
        until = instants[-at_least] + window
        return until if t < until else -FOREVER

    return test


def _seen(condition: SeenCondition) -> ConditionTest:
    return _within(_last_instant(condition.seen), condition.within or EVER)


def _silent(condition: SilentCondition) -> ConditionTest:
    return _negate(_within(_last_instant(condition.silent), condition.for_))


def _trait(condition: TraitCondition) -> ConditionTest:
    name = condition.trait
    return lambda facts, _: _sign(_trait_fits(facts.traits.get(name), condition))


def _trait_fits(value: object, condition: TraitCondition) -> bool:
    match condition.comparison:
        case "known":
            return (value is not None) is condition.known
        case "equals":
            equals = condition.equals
            return value == equals or (value is not None and str(value) == str(equals))
        case "one_of":
            return value in (condition.one_of or ())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if condition.at_least is not None:
        return value >= condition.at_least
    return condition.at_most is not None and value <= condition.at_most


def _consent(condition: ConsentCondition) -> ConditionTest:
    purpose, given = condition.consent, condition.given
    return lambda facts, _: _sign(facts.consents.get(purpose, False) is given)


def _idle(condition: IdleCondition) -> ConditionTest:
    untouched = _negate(_within(_last_touch, condition.idle))
    return lambda facts, t: -FOREVER if facts.planned else untouched(facts, t)


def _compelling(condition: CompellingCondition) -> ConditionTest:
    kind = condition.compelling

    def test(facts: ContactFacts, t: int) -> int:
        # An event about a company wakes none of its contacts: a waiting enrollment looks again.
        is_open = bool(facts.events) if kind == "any" else kind in facts.events
        return t + HOUR if is_open else -(t + HOUR)

    return test


def _last_instant(signal: str) -> LastInstant:
    if signal == "any":
        return lambda facts: facts.last_act
    return lambda facts: facts.last_seen(signal)


def _last_touch(facts: ContactFacts) -> int | None:
    instants = [at for at in (facts.last_act, facts.last_touch) if at is not None]
    return max(instants, default=None)


def _within(last_instant: LastInstant, window: int) -> ConditionTest:
    def test(facts: ContactFacts, t: int) -> int:
        last = last_instant(facts)
        until = -1 if last is None else last + window
        return until if t < until else -FOREVER

    return test


def _sign(is_true: bool) -> int:
    return FOREVER if is_true else -FOREVER


def _every(parts: list[ConditionTest]) -> ConditionTest:
    return lambda facts, t: min((part(facts, t) for part in parts), default=FOREVER)


def _some(parts: list[ConditionTest]) -> ConditionTest:
    return lambda facts, t: max((part(facts, t) for part in parts), default=-FOREVER)


def _negate(part: ConditionTest) -> ConditionTest:
    return lambda facts, t: -part(facts, t)


_COMPILERS: Mapping[type[ConditionModel], Callable[[Any], ConditionTest]] = {
    StageCondition: _stage,
    AxisCondition: _axis,
    ScoreCondition: _score,
    CountCondition: _count,
    SeenCondition: _seen,
    SilentCondition: _silent,
    TraitCondition: _trait,
    DormantCondition: _dormant,
    ConsentCondition: _consent,
    IdleCondition: _idle,
    CompellingCondition: _compelling,
}
"""How each kind without parts is compiled."""
