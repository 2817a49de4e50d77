"""Random cycles and histories for properties: half-lives and windows of a few microseconds, so that all can be looked at.

General cycles are too dilute to find every mistake, so some draws are directed: many scores and thresholds, every
comparison at equality, few instants.
"""

from typing import Any

import msgspec
from hypothesis import strategies as st

from services.scoring.domain.signal_classifier import FoldEvent

SCORES = ("s0", "s1")
SIGNALS = ("g0", "g1", "g2")
VALUES = ("red", "blue")
SPAN = 60
"""Histories lie within this many microseconds."""


def _us(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(lambda n: f"{n}us")


def atoms(earlier: list[tuple[str, list[str]]]) -> st.SearchStrategy[dict[str, Any]]:
    """Return atoms; `earlier` are the axes that may be looked at, with their stages."""
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
        places = [{"axis": name, "at_least": stage} for name, stages in earlier for stage in stages]
        kinds.append(st.sampled_from(places))
    return st.one_of(kinds)


def conditions(earlier: list[tuple[str, list[str]]]) -> st.SearchStrategy[dict[str, Any]]:
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


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a whole cycle."""
    axes: list[dict[str, Any]] = []
    earlier: list[tuple[str, list[str]]] = []
    for name in ("buying", "sales"):
        stages: list[dict[str, Any]] = [{"name": f"{name}0"}]
        for n in range(1, draw(st.integers(2, 3))):
            stage = {"name": f"{name}{n}", "enter": draw(conditions(earlier))}
            if draw(st.booleans()):
                stage["stay"] = draw(conditions(earlier))
            if draw(st.integers(0, 3)) == 0:
                stage["dwell"] = draw(_us(1, 12))
            stages.append(stage)
        axes.append({"name": name, "stages": stages})
        earlier.append((name, [s["name"] for s in stages]))
    points = st.sampled_from([1.0, 2.0, 4.0, -1.0, -3.0])
    signals = {
        name: {
            "match": [{"name": name}],
            "adds": [
                {
                    "score": score,
                    "points": draw(points),
                    "cap": draw(st.sampled_from([None, 3.0, 5.0])),
                }
                for score in SCORES
                if draw(st.booleans())
            ],
        }
        for name in SIGNALS
    }
    sales, buying = ([s["name"] for s in a["stages"]] for a in reversed(axes))
    rings = draw(
        st.lists(
            st.integers(0, 3), min_size=len(sales) * len(buying), max_size=len(sales) * len(buying)
        )
    )
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
        "dormant": draw(st.fixed_dictionaries({"silent": st.just("any"), "for": _us(3, 40)})),
        "repeat": {
            "signal": draw(st.sampled_from(SIGNALS)),
            "from_stage": draw(st.sampled_from(stages))["name"],
        },
    }


def _by_hand(draw: st.DrawFn, occurrence: FoldEvent) -> FoldEvent:
    """Make it a stage set by hand: one or both axes, held for a while or let go at once."""
    axes = sorted(draw(st.sets(st.integers(0, 1), min_size=1)))
    manual = tuple(
        (axis, draw(st.integers(0, 1)), occurrence.at + draw(st.integers(0, 25))) for axis in axes
    )
    return msgspec.structs.replace(
        occurrence, source="correction", signals=[], traits={}, present=False, manual=manual
    )


@st.composite
def histories(draw: st.DrawFn, max_size: int = 8, instants: int = SPAN) -> list[FoldEvent]:
    """Draw a history in key order; with few `instants` several touchpoints share one."""
    found = {}
    for n in range(draw(st.integers(1, max_size))):
        at = draw(st.integers(1, instants))
        signals = sorted(draw(st.sets(st.integers(0, len(SIGNALS) - 1), max_size=2)))
        traits = draw(st.sampled_from([{}, {}, {"colour": "red"}, {"colour": "blue"}]))
        source = draw(st.sampled_from(["a", "b"]))
        occurrence = FoldEvent(at, source, f"m{n}", signals, draw(st.booleans()), traits)
        if draw(st.integers(0, 6)) == 0:
            occurrence = _by_hand(draw, occurrence)
        found[occurrence.key] = occurrence
    return [found[key] for key in sorted(found)]
