"""Conditions of plays and segments: the grammar of the cycles, over what is known of a contact.

As in the cycles a condition evaluates at an instant t to a signed horizon: `+u` is true and cannot change before u by the mere
passing of time, `-u` is false until then at least. So `all` is min, `any` is max, `not` is negation, and whoever waits for a
condition knows when to look again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from libs.common.durations import parse_duration
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies

FOREVER = 1 << 62
HOUR_US = parse_duration("1h")
Condition = dict[str, Any]
ConditionTest = Callable[[ContactFacts, int], int]
"""From a contact's facts and an instant to the signed horizon."""

_KEYS: dict[str, set[str]] = {
    "all": {"all"},
    "any": {"any"},
    "not": {"not"},
    "stage": {"stage", "cycle"},
    "axis": {"axis", "at_least", "below", "cycle"},
    "score": {"score", "at_least", "below", "cycle"},
    "count": {"count", "within", "at_least"},
    "seen": {"seen", "within"},
    "silent": {"silent", "for"},
    "trait": {"trait", "equals", "one_of", "at_least", "at_most", "known"},
    "dormant": {"dormant", "cycle"},
    "consent": {"consent", "given"},
    "segment": {"segment"},
    "idle": {"idle"},
    "compelling": {"compelling"},
}
COSTLY_KINDS = frozenset(("idle", "compelling"))
"""What is gathered of contacts only where a condition asks for it."""


def compile_condition(
    raw: Condition, segments: Mapping[str, Condition] | None = None
) -> ConditionTest:
    """Return the test of a condition. Raises ValueError saying what in it is wrong."""
    return _Compiler(segments or {}, None).node(raw, ())


def check_references(
    raw: Condition, segments: Mapping[str, Condition], vocabulary: CycleVocabularies
) -> None:
    """Raise ValueError if a condition names a cycle, stage, score, signal or segment that there is none of."""
    _Compiler(segments, vocabulary).node(raw, ())


def condition_holds(test: ConditionTest, facts: ContactFacts, now: int) -> bool:
    """Return whether a condition holds at an instant."""
    return test(facts, now) > 0


def condition_kinds(raw: Any) -> set[str]:
    """Return the kinds of condition that stand in one, whatever it is made of."""
    if isinstance(raw, list):
        return set().union(*map(condition_kinds, raw)) if raw else set()
    return (
        raw.keys() & _KEYS.keys() | condition_kinds([*raw.values()])
        if isinstance(raw, dict)
        else set()
    )


def referenced_segments(raw: Any) -> set[str]:
    """Return the segments that a condition names."""
    if isinstance(raw, list):
        return set().union(*map(referenced_segments, raw)) if raw else set()
    if not isinstance(raw, dict):
        return set()
    named = {raw["segment"]} if "segment" in raw else set()
    return named.union(*(referenced_segments(part) for part in raw.values()))


def referenced_signals(raw: Any) -> set[str]:
    """Return the signals that a condition asks for."""
    if isinstance(raw, list):
        return set().union(*map(referenced_signals, raw)) if raw else set()
    if not isinstance(raw, dict):
        return set()
    named = {raw[kind] for kind in ("count", "seen", "silent") if isinstance(raw.get(kind), str)}
    return named.union(*(referenced_signals(part) for part in raw.values()))


class _Compiler:
    def __init__(
        self, segments: Mapping[str, Condition], vocabulary: CycleVocabularies | None
    ) -> None:
        self._segments = segments
        self._vocabulary = vocabulary

    def node(self, raw: Any, inside: tuple[str, ...]) -> ConditionTest:
        """Compile a node; `inside` are the segments it is part of."""
        kinds = [kind for kind in _KEYS if isinstance(raw, dict) and kind in raw]
        if len(kinds) != 1:
            raise ValueError(f"{raw!r:.80}: exactly one of {', '.join(_KEYS)} is needed")
        kind = kinds[0]
        unknown = raw.keys() - _KEYS[kind]
        if unknown:
            raise ValueError(f"{kind} knows no {', '.join(sorted(map(str, unknown)))}")
        if kind in ("all", "any"):
            parts = [self.node(part, inside) for part in raw[kind]]
            return _every(parts) if kind == "all" else _some(parts)
        if kind == "not":
            return _opposite(self.node(raw["not"], inside))
        if kind == "segment":
            return self._segment(raw["segment"], inside)
        try:
            found: ConditionTest = getattr(self, f"_{kind}")(raw)
            return found
        except KeyError as error:
            raise ValueError(f"{kind}: {error.args[0]} is needed") from None
        except TypeError as error:
            raise ValueError(f"{kind}: {error}") from None

    def _segment(self, name: str, inside: tuple[str, ...]) -> ConditionTest:
        if name in inside:
            raise ValueError(f"segment {name!r} is defined by itself")
        if name not in self._segments:
            raise ValueError(
                f"no segment {name!r}; there are {', '.join(sorted(self._segments)) or 'none'}"
            )
        return self.node(self._segments[name], (*inside, name))

    def _stage(self, raw: Condition) -> ConditionTest:
        wanted = frozenset([raw["stage"]] if isinstance(raw["stage"], str) else raw["stage"])
        cycle = self._cycle(raw)
        if self._vocabulary:
            self._vocabulary.check_stages(cycle, wanted)
        return lambda facts, _: _sign(
            (at := facts.standings.get(cycle)) is not None and at.stage in wanted
        )

    def _dormant(self, raw: Condition) -> ConditionTest:
        wanted, cycle = bool(raw["dormant"]), self._cycle(raw)
        return lambda facts, _: _sign(
            (at := facts.standings.get(cycle)) is not None and at.dormant is wanted
        )

    def _axis(self, raw: Condition) -> ConditionTest:
        cycle, axis, upward, place = self._cycle(raw), raw["axis"], *_bound(raw)
        if self._vocabulary:
            self._vocabulary.check_axis_place(cycle, axis, place)

        def test(facts: ContactFacts, _: int) -> int:
            at = facts.standings.get(cycle)
            ladder = at.ladders.get(axis, ()) if at else ()
            if at is None or place not in ladder or at.axes.get(axis) not in ladder:
                return -FOREVER
            return _sign((ladder.index(at.axes[axis]) >= ladder.index(place)) is upward)

        return test

    def _score(self, raw: Condition) -> ConditionTest:
        cycle, name, upward, bound = self._cycle(raw), raw["score"], *_bound(raw)
        threshold = float(bound)
        if threshold == 0.0:
            raise ValueError(
                "a decayed score nears 0 without reaching it: compare with another number"
            )
        if self._vocabulary:
            self._vocabulary.check_score(cycle, name)

        def test(facts: ContactFacts, t: int) -> int:
            at = facts.standings.get(cycle)
            score = at.scores.get(name) if at else None
            if score is None:
                found = _sign(threshold < 0)
            else:
                reached = score.value_at(t) >= threshold
                crosses = (
                    score.value / threshold > 1.0
                )  # it decays towards 0, and passes the threshold on its way
                until = (
                    score.at + int(score.half_life * math.log2(score.value / threshold)) + 1
                    if crosses
                    else 0
                )
                found = _sign(reached) if until <= t else (until if reached else -until)
            return found if upward else -found

        return test

    def _count(self, raw: Condition) -> ConditionTest:
        signal, least = self._signal(raw["count"]), int(raw["at_least"])
        window = parse_duration(raw["within"]) if "within" in raw else FOREVER // 2
        if least < 1:
            raise ValueError("at_least is 1 or more")

        def test(facts: ContactFacts, t: int) -> int:
            seen = [at for at in facts.signals.get(signal, ()) if at <= t]
            if len(seen) < least:
                return -FOREVER
            until = seen[-least] + window
            return until if t < until else -FOREVER

        return test

    def _seen(self, raw: Condition) -> ConditionTest:
        return _within(
            _last_of(self._signal(raw["seen"])),
            parse_duration(raw["within"]) if "within" in raw else FOREVER // 2,
        )

    def _silent(self, raw: Condition) -> ConditionTest:
        last = _last_act if raw["silent"] == "any" else _last_of(self._signal(raw["silent"]))
        return _opposite(_within(last, parse_duration(raw["for"])))

    def _idle(self, raw: Condition) -> ConditionTest:
        untouched = _opposite(_within(_last_touch, parse_duration(raw["idle"])))
        return lambda facts, t: -FOREVER if facts.planned else untouched(facts, t)

    def _compelling(self, raw: Condition) -> ConditionTest:
        kind = raw["compelling"]

        def test(facts: ContactFacts, t: int) -> int:
            # An event about a company wakes nobody of it: whoever waits looks again.
            return (
                t + HOUR_US
                if (facts.events if kind == "any" else kind in facts.events)
                else -(t + HOUR_US)
            )

        return test

    def _trait(self, raw: Condition) -> ConditionTest:
        name = raw["trait"]
        wanted = {key: raw[key] for key in raw.keys() - {"trait"}}
        if len(wanted) != 1:
            raise ValueError("a trait needs one of equals, one_of, at_least, at_most, known")
        ((how, value),) = wanted.items()
        if how in ("at_least", "at_most") and (
            isinstance(value, bool) or not isinstance(value, int | float)
        ):
            raise ValueError(f"{how} needs a number, not {value!r}")
        if how == "one_of" and not isinstance(value, list):
            raise ValueError(f"one_of needs a list, not {value!r}")
        return lambda facts, _: _sign(_fits(facts.traits.get(name), how, value))

    def _consent(self, raw: Condition) -> ConditionTest:
        purpose, given = raw["consent"], raw.get("given", True)
        return lambda facts, _: _sign(facts.consents.get(purpose, False) is given)

    def _cycle(self, raw: Condition) -> str:
        cycle: str = raw.get("cycle", "engagement")
        if self._vocabulary:
            self._vocabulary.get_cycle(cycle)
        return cycle

    def _signal(self, name: str) -> str:
        if self._vocabulary:
            self._vocabulary.check_signal(name)
        return name


def _bound(raw: Condition) -> tuple[bool, Any]:
    if ("at_least" in raw) == ("below" in raw):
        raise ValueError("needs either at_least or below")
    return "at_least" in raw, raw["at_least"] if "at_least" in raw else raw["below"]


def _sign(true: bool) -> int:
    return FOREVER if true else -FOREVER


def _every(parts: Sequence[ConditionTest]) -> ConditionTest:
    return lambda facts, t: min((part(facts, t) for part in parts), default=FOREVER)


def _some(parts: Sequence[ConditionTest]) -> ConditionTest:
    return lambda facts, t: max((part(facts, t) for part in parts), default=-FOREVER)


def _opposite(part: ConditionTest) -> ConditionTest:
    return lambda facts, t: -part(facts, t)


def _last_act(facts: ContactFacts) -> int | None:
    return facts.last_act


def _last_touch(facts: ContactFacts) -> int | None:
    return max((at for at in (facts.last_act, facts.last_touch) if at is not None), default=None)


def _last_of(signal: str) -> Callable[[ContactFacts], int | None]:
    return lambda facts: facts.last_seen(signal)


def _within(last_of: Callable[[ContactFacts], int | None], window: int) -> ConditionTest:
    def test(facts: ContactFacts, t: int) -> int:
        last = last_of(facts)
        until = -1 if last is None else last + window
        return until if t < until else -FOREVER

    return test


def _fits(value: Any, how: str, wanted: Any) -> bool:
    if how == "known":
        return (value is not None) is bool(wanted)
    if how == "equals":
        return value == wanted or (value is not None and str(value) == str(wanted))
    if how == "one_of":
        return value in wanted
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return bool(value >= wanted if how == "at_least" else value <= wanted)
