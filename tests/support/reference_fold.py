"""Naive reference of the fold: it keeps the history and evaluates every microsecond.

It shares only `decay` with the product: no deadlines, no horizons, no wakes.
"""

from typing import Any

from libs.common.decay import decay
from libs.common.durations import parse_duration
from services.scoring.domain.cycle_spec import CycleSpec
from services.scoring.domain.signal_classifier import FoldEvent

DAY = 86_400_000_000
Seen = tuple[int, bool, str, str, tuple[str, ...], bool, str]
"""(at, timed, message_id, stage, places, dormant, instance)"""


class ReferenceFold:
    """Fold of one contact, stepped through time."""

    def __init__(self, spec: CycleSpec) -> None:
        self.spec = spec
        self.names = list(spec.signals)
        self.history: list[FoldEvent] = []
        self.places: list[int] = [-1] * len(spec.axes)
        self.since: list[int] = [0] * len(spec.axes)
        self.manual_until: list[int] = [0] * len(spec.axes)
        self.dormant = False
        self.instance = ""
        self.moves: list[Seen] = []

    def run(self, occurrences: list[FoldEvent], end: int) -> list[Seen]:
        """Return the moves of occurrences (in key order) up to `end`."""
        waiting = list(occurrences)
        if not waiting:
            return []
        for t in range(waiting[0].at, end + 1):
            if self.history:
                self.update_stages(t, "")
            while waiting and waiting[0].at == t:
                self.take(waiting.pop(0))
        return self.moves

    def take(self, occurrence: FoldEvent) -> None:
        before = self.stage() if self.history else None
        self.history.append(occurrence)
        repeat = self.spec.repeat
        success = repeat is not None and self.names.index(repeat.signal) in occurrence.signals
        name = f"{occurrence.source}:{occurrence.message_id}"
        ring = {s.name: s.ring for s in self.spec.stages}
        if before is None or (repeat and success and ring[before] >= ring[repeat.from_stage]):
            self.instance = name
            self.update_stages(
                occurrence.at, occurrence.message_id, force=True, manual=occurrence.manual
            )
        else:
            self.update_stages(occurrence.at, occurrence.message_id, manual=occurrence.manual)

    def update_stages(self, t: int, message_id: str, *, force: bool = False, manual=()) -> None:
        changed = force
        manual_stages = {number: (stage_number, until) for number, stage_number, until in manual}
        for number in range(len(self.spec.axes)):
            if number in manual_stages:
                stage_number, until = manual_stages[number]
                self.manual_until[number] = max(until, t + 1)
            else:
                stage_number = (
                    self.places[number] if t < self.manual_until[number] else self.place(number, t)
                )
            if stage_number != self.places[number]:
                self.places[number], self.since[number], changed = stage_number, t, True
        dormant = self.holds(self.spec.dormant.written, t)
        if dormant != self.dormant:
            self.dormant, changed = dormant, True
        if changed:
            names = tuple(
                axis.stages[p].name for axis, p in zip(self.spec.axes, self.places, strict=True)
            )
            self.moves.append(
                (t, not message_id, message_id, self.stage(), names, dormant, self.instance)
            )

    def stage(self) -> str:
        at = {a.name: a.stages[p].name for a, p in zip(self.spec.axes, self.places, strict=True)}
        return self.spec.map[at["sales"]][at["buying"]]

    def place(self, number: int, t: int) -> int:
        stages, now = self.spec.axes[number].stages, self.places[number]
        entered = [
            i
            for i, stage in enumerate(stages)
            if i > max(now, 0) and stage.enter and self.holds(stage.enter.written, t)
        ]
        if entered:
            return entered[-1]
        if now <= 0:
            return 0
        if self.stays(number, now, t) or t < self.since[number] + (stages[now].dwell or 0):
            return now
        return max((i for i in range(1, now) if self.stays(number, i, t)), default=0)

    def stays(self, number: int, i: int, t: int) -> bool:
        stage = self.spec.axes[number].stages[i]
        conditions = (stage.enter, stage.stay)
        return any(c is not None and self.holds(c.written, t) for c in conditions)

    def holds(self, raw: Any, t: int) -> bool:
        if "all" in raw:
            return all(self.holds(c, t) for c in raw["all"])
        if "any" in raw:
            return any(self.holds(c, t) for c in raw["any"])
        if "not" in raw:
            return not self.holds(raw["not"], t)
        if "score" in raw:
            value = self.value(raw["score"], t)
            return bool(
                value >= raw["at_least"] if "at_least" in raw else not value >= raw["below"]
            )
        if "count" in raw:
            window = parse_duration(raw["within"]) if "within" in raw else 1 << 60
            return bool(
                sum(1 for at in self.times(raw["count"]) if t - window < at) >= raw["at_least"]
            )
        if "seen" in raw:
            window = parse_duration(raw["within"]) if "within" in raw else 1 << 60
            return any(t - at < window for at in self.times(raw["seen"]))
        if "silent" in raw:
            return not any(t - at < parse_duration(raw["for"]) for at in self.times(raw["silent"]))
        if "trait" in raw:
            trait_values = [
                o.traits[raw["trait"]] for o in self.history if raw["trait"] in o.traits
            ]
            return bool(trait_values and trait_values[-1] == raw["equals"])
        axis = [a.name for a in self.spec.axes].index(raw["axis"])
        return self.places[axis] >= [s.name for s in self.spec.axes[axis].stages].index(
            raw["at_least"]
        )

    def times(self, name: str) -> list[int]:
        if name == "any":
            return [o.at for i, o in enumerate(self.history) if o.present or i == 0]
        return [o.at for o in self.history if self.names.index(name) in o.signals]

    def value(self, score: str, t: int) -> float:
        half_life = self.spec.scores[score].half_life
        value, as_of = 0.0, 0
        used: dict[tuple[int, int], float] = {}
        for o in self.history:
            for number in o.signals:
                for i, added in enumerate(self.spec.signals[self.names[number]].adds):
                    points = added.points
                    if added.cap is not None:
                        slot = (number * 100 + i, o.at // DAY)
                        remaining = added.cap - used.get(slot, 0.0)
                        points = min(points, remaining) if points > 0 else max(points, -remaining)
                        used[slot] = used.get(slot, 0.0) + abs(points)
                        if points == 0.0:
                            continue
                    if added.score == score:
                        value, as_of = value * decay(o.at - as_of, half_life) + points, o.at
        return value * decay(t - as_of, half_life)
