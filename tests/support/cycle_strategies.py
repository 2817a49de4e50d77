"""Hypothesis strategies of cycles and histories, with half-lives and windows of microseconds.

General cycles are too dilute to reveal every mistake, so some draws are directed: many scores and
thresholds, comparisons at equality, few instants.
"""

from functools import lru_cache
from typing import Any

import msgspec
from hypothesis import strategies as st

from services.scoring.domain.signal_classifier import FoldEvent

SCORES = ("s0", "s1")
SIGNALS = ("g0", "g1", "g2")
VALUES = ("red", "blue")
SPAN = 60
"""Histories lie within this many microseconds."""


Earlier = tuple[tuple[str, tuple[str, ...]], ...]
"""Axes that a condition may read, with their stages."""


# Cached: Hypothesis validates and labels each new strategy, which costs more than a draw.
@lru_cache
def _us(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(lambda n: f"{n}us")


@lru_cache
def atoms(earlier: Earlier) -> st.SearchStrategy[dict[str, Any]]:
    """Return atoms; `earlier` are the axes that they may read, with their stages."""
    threshold = st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0, 8.0, -1.0, -2.0])
    compare = st.sampled_from(["at_least", "below"])
    kinds: list[st.SearchStrategy[dict[str, Any]]] = [
        st.tuples(st.sampled_from(SCORES), compare, threshold).map(
            lambda x: {"score": x[0], x[1]: x[2]}
        ),
        st.tuples(st.sampled_from(SCORES), compare, threshold).map(
            lambda x: {"score": x[0], x[1]: x[2]}
        ),
        st.fixed_dictionaries(
            {"count": st.sampled_from(SIGNALS), "within": _us(1, 30), "at_least": st.integers(1, 3)}
        ),
        st.fixed_dictionaries({"seen": st.sampled_from((*SIGNALS, "any")), "within": _us(1, 30)}),
        st.fixed_dictionaries({"silent": st.sampled_from((*SIGNALS, "any")), "for": _us(1, 30)}),
        st.fixed_dictionaries({"trait": st.just("colour"), "equals": st.sampled_from(VALUES)}),
    ]
    if earlier:
        axis_atoms = [
            {"axis": name, "at_least": stage} for name, stages in earlier for stage in stages
        ]
        kinds.append(st.sampled_from(axis_atoms))
    return st.one_of(kinds)


@lru_cache
def conditions(earlier: Earlier) -> st.SearchStrategy[dict[str, Any]]:
    """Return conditions of a few atoms."""
    return st.recursive(
        atoms(earlier),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda c: {"all": c}),
            st.lists(inner, min_size=1, max_size=3).map(lambda c: {"any": c}),
            inner.map(lambda c: {"not": c}),
        ),
        max_leaves=4,
    )


_STAGES = st.integers(2, 3)
_BOOLEANS = st.booleans()
_RINGS = st.integers(0, 3)
_POINTS = st.sampled_from([1.0, 2.0, 4.0, -1.0, -3.0])
_CAPS = st.sampled_from([None, 3.0, 5.0])
_SIGNAL = st.sampled_from(SIGNALS)
_AXES = st.sets(st.integers(0, 1), min_size=1)
_SIGNALS = st.sets(st.integers(0, len(SIGNALS) - 1), max_size=2)
_TRAITS = st.sampled_from([{}, {}, {"colour": "red"}, {"colour": "blue"}])
_SOURCE = st.sampled_from(["a", "b"])


@lru_cache
def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a complete cycle."""
    axes: list[dict[str, Any]] = []
    earlier: Earlier = ()
    for name in ("buying", "sales"):
        stages: list[dict[str, Any]] = [{"name": f"{name}0"}]
        for n in range(1, draw(_STAGES)):
            stage = {"name": f"{name}{n}", "enter": draw(conditions(earlier))}
            if draw(_BOOLEANS):
                stage["stay"] = draw(conditions(earlier))
            if draw(_RINGS) == 0:
                stage["dwell"] = draw(_us(1, 12))
            stages.append(stage)
        axes.append({"name": name, "stages": stages})
        earlier = (*earlier, (name, tuple(s["name"] for s in stages)))
    signals = {
        name: {
            "match": [{"name": name}],
            "adds": [
                {
                    "score": score,
                    "points": draw(_POINTS),
                    "cap": draw(_CAPS),
                }
                for score in SCORES
                if draw(_BOOLEANS)
            ],
        }
        for name in SIGNALS
    }
    sales, buying = ([s["name"] for s in a["stages"]] for a in reversed(axes))
    rings = [draw(_RINGS) for _ in range(len(sales) * len(buying))]
    cells = [(s, b) for s in sales for b in buying]
    stages = [{"name": f"{s}.{b}", "ring": ring} for (s, b), ring in zip(cells, rings, strict=True)]
    return {
        "cycle": "random",
        "version": "1",
        "scores": {name: {"half_life": draw(_us(1, 40))} for name in SCORES},
        "signals": signals,
        "axes": axes,
        "stages": stages,
        "map": {s: {b: f"{s}.{b}" for b in buying} for s in sales},
        "dormant": {"silent": "any", "for": draw(_us(3, 40))},
        "repeat": {
            "signal": draw(_SIGNAL),
            "from_stage": stages[draw(_integers(0, len(stages) - 1))]["name"],
        },
    }


def _as_manual_stage(draw: st.DrawFn, occurrence: FoldEvent) -> FoldEvent:
    """Return the event as a manual stage of one or both axes, ended at once or after a while."""
    axes = sorted(draw(_AXES))
    manual = tuple(
        (axis, draw(_integers(0, 1)), occurrence.at + draw(_integers(0, 25))) for axis in axes
    )
    return msgspec.structs.replace(
        occurrence, source="correction", signals=[], traits={}, present=False, manual=manual
    )


@st.composite
def histories(draw: st.DrawFn, max_size: int = 8, instants: int = SPAN) -> list[FoldEvent]:
    """Draw a history in key order; with few `instants` several touchpoints share one."""
    events = {}
    for n in range(draw(_integers(1, max_size))):
        at = draw(_integers(1, instants))
        signals = sorted(draw(_SIGNALS))
        traits = draw(_TRAITS)
        source = draw(_SOURCE)
        occurrence = FoldEvent(at, source, f"m{n}", signals, draw(_BOOLEANS), traits)
        if draw(_integers(0, 6)) == 0:
            occurrence = _as_manual_stage(draw, occurrence)
        events[occurrence.key] = occurrence
    return [events[key] for key in sorted(events)]
