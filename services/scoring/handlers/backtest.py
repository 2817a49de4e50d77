"""Backtest: the stored history folded under another cycle version, compared with the live one.

It reads one database snapshot and writes nothing.
"""

from collections import Counter
from typing import NamedTuple

import msgspec

from libs.common.db.connection import Connection
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold import advance
from services.scoring.domain.identity_resolution import SubjectKey
from services.scoring.domain.move import Move
from services.scoring.handlers.replay import replay_all

SAMPLES = 5
"""Most contacts named for each difference."""


class StageStep(NamedTuple):
    """A transition between engagement stages; an entry comes from `-`."""

    before: str
    after: str


class StageDifference(msgspec.Struct):
    """The contacts that are in stage `now` and would be in stage `then`; `people` counts them."""

    now: str
    then: str
    people: int
    samples: list[str]


class TransitionDifference(msgspec.Struct):
    """A transition's count under the live version (`now`) and under the other one (`then`)."""

    before: str
    after: str
    now: int
    then: int


class VersionComparison(msgspec.Struct):
    """The differences between the two versions.

    `people` and `touchpoints` count what was folded; `moved` has the contacts whose final stage
    differs, `steps` the transitions whose count differs, the largest differences first.
    """

    people: int
    touchpoints: int
    moved: list[StageDifference]
    steps: list[TransitionDifference]
    transitions_now: int
    transitions_then: int


async def run_backtest(
    connection: Connection, now: ActiveCycle | None, then: ActiveCycle, until: int
) -> VersionComparison:
    """Fold every contact under both versions, advanced to `until` (µs UTC), and compare.

    Without a live version (`now`) every contact counts as moved from `-`.
    """
    cycles = [cycle for cycle in (now, then) if cycle is not None]
    history = await replay_all(connection, cycles)
    moved: dict[tuple[str, str], list[SubjectKey]] = {}
    steps: dict[str, Counter[StageStep]] = {cycle.engine.fold: Counter() for cycle in cycles}
    for subject, by_fold in history.folds.items():
        final_stages = []
        for cycle in cycles:
            fold = by_fold[cycle.engine.fold]
            advance(cycle.engine, fold.state, until, fold.moves)
            steps[cycle.engine.fold].update(_stage_steps(fold.moves))
            final_stages.append(_final_stage(fold.moves))
        if len(final_stages) == 1 or final_stages[0] != final_stages[1]:
            stage_now = final_stages[0] if now else "-"
            moved.setdefault((stage_now, final_stages[-1]), []).append(subject)
    before, after = steps[now.engine.fold] if now else Counter(), steps[then.engine.fold]
    changed = [
        TransitionDifference(*step, before[step], after[step])
        for step in sorted(before | after)
        if before[step] != after[step]
    ]
    return VersionComparison(
        len(history.folds),
        history.touchpoints,
        [
            StageDifference(
                stage_now,
                stage_then,
                len(subjects),
                [f"{s.type}:{s.value}" for s in sorted(subjects)[:SAMPLES]],
            )
            for (stage_now, stage_then), subjects in sorted(
                moved.items(), key=lambda item: -len(item[1])
            )
        ],
        sorted(changed, key=lambda s: -abs(s.then - s.now)),
        before.total(),
        after.total(),
    )


def _stage_steps(moves: list[Move]) -> list[StageStep]:
    steps = []
    for move in moves:
        before = move.before.stage if move.before else "-"
        if before != move.after.stage:
            steps.append(StageStep(before, move.after.stage))
    return steps


def _final_stage(moves: list[Move]) -> str:
    after = moves[-1].after
    return f"{after.stage}, dormant" if after.dormant else after.stage
