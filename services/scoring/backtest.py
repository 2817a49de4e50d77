"""What a version of a cycle would make of the stored history, beside the live one. Reads one snapshot, writes nothing."""

from collections import Counter
from typing import Any

import msgspec

from libs.common.db.connection import Connection
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold import advance
from services.scoring.domain.identity_resolution import SubjectKey
from services.scoring.domain.move import Move
from services.scoring.replay import replay_all

SAMPLES = 5
Step = tuple[str, str]
"""(from, to) of an engagement stage; an entry comes from `-`."""


class StageDifference(msgspec.Struct):
    """People who would stand elsewhere."""

    now: str
    then: str
    people: int
    samples: list[str]


class TransitionDifference(msgspec.Struct):
    """How often a step was made, and would have been."""

    before: str
    after: str
    now: int
    then: int


class BacktestResult(msgspec.Struct):
    """The outcome: who moves, which transitions are gained and lost."""

    people: int
    touchpoints: int
    moved: list[StageDifference]
    steps: list[TransitionDifference]
    transitions_now: int
    transitions_then: int


async def run_backtest(
    connection: Connection, now: ActiveCycle | None, then: ActiveCycle, until: int
) -> BacktestResult:
    """Fold everybody under both versions up to `until`; without a live one, everybody is new."""
    cycles = [cycle for cycle in (now, then) if cycle is not None]
    folded = await replay_all(connection, cycles)
    moved: dict[tuple[str, str], list[SubjectKey]] = {}
    steps: dict[str, Counter[Step]] = {cycle.engine.fold: Counter() for cycle in cycles}
    for person, by_fold in folded.folds.items():
        ends = []
        for cycle in cycles:
            fold = by_fold[cycle.engine.fold]
            advance(cycle.engine, fold.state, until, fold.moves)
            steps[cycle.engine.fold].update(_steps(fold.moves))
            ends.append(_end(fold.moves))
        if len(ends) == 1 or ends[0] != ends[1]:
            moved.setdefault((ends[0] if now else "-", ends[-1]), []).append(person)
    before, after = steps[now.engine.fold] if now else Counter(), steps[then.engine.fold]
    changed = [
        TransitionDifference(*step, before[step], after[step])
        for step in sorted(before | after)
        if before[step] != after[step]
    ]
    return BacktestResult(
        len(folded.folds),
        folded.touchpoints,
        [
            StageDifference(a, b, len(people), [":".join(p[1:]) for p in sorted(people)[:SAMPLES]])
            for (a, b), people in sorted(moved.items(), key=lambda item: -len(item[1]))
        ],
        sorted(changed, key=lambda s: -abs(s.then - s.now)),
        before.total(),
        after.total(),
    )


def _steps(moves: list[Move]) -> list[Step]:
    found = []
    for move in moves:
        before = move.before.stage if move.before else "-"
        if before != move.after.stage:
            found.append((before, move.after.stage))
    return found


def _end(moves: list[Move]) -> str:
    after = moves[-1].after
    return f"{after.stage}, dormant" if after.dormant else after.stage


def diff_specs(old: Any, new: Any, place: str = "") -> list[str]:
    """Return the places where two specifications differ, as `place: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in sorted(old.keys() | new.keys(), key=str):
            found += diff_specs(
                old.get(name), new.get(name), f"{place}.{name}" if place else str(name)
            )
        return found
    if isinstance(old, list) and isinstance(new, list):
        named = [
            {one["name"]: one for one in side if isinstance(one, dict) and "name" in one}
            for side in (old, new)
        ]
        if len(named[0]) == len(old) and len(named[1]) == len(new):
            return diff_specs(named[0], named[1], place)
    return [] if old == new else [f"{place}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    if value is None:
        return "(nothing)"
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
