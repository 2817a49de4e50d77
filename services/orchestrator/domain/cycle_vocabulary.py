"""Names that the live cycles define and plays refer to, from the cycles' specifications."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from libs.common.durations import parse_duration


class CycleVocabulary(msgspec.Struct, frozen=True):
    """The names of one live cycle: stages with rings, axes with their stages, scores, signals."""

    version: str
    rings: Mapping[str, int]
    ladders: Mapping[str, Sequence[str]]
    half_lives: Mapping[str, int]
    """{score: half-life in µs}, in the order of the stored state."""
    signals: frozenset[str]
    questions: Mapping[str, str] = {}
    """{stage: guiding question}"""
    owners: Mapping[str, str] = {}
    """{stage: owner}"""
    success: str = ""
    """The signal of the cycle's success, which opens the next instance."""


class CycleVocabularies(msgspec.Struct, frozen=True):
    """The names of all live cycles. Checks raise ValueError with the list of existing names."""

    cycles: Mapping[str, CycleVocabulary]
    segment_signals: frozenset[str] = frozenset()
    """The signals of entering and leaving segments."""
    needs_costly_facts: bool = False
    """Whether a condition of a play needs the costly fields of ContactFacts."""

    def get_cycle(self, name: str) -> CycleVocabulary:
        """Return the names of a cycle."""
        if name not in self.cycles:
            raise ValueError(f"no cycle {name!r}; there are {_join(self.cycles)}")
        return self.cycles[name]

    def check_stages(self, cycle: str, stages: Iterable[str]) -> None:
        """Check that a cycle has these stages."""
        rings = self.get_cycle(cycle).rings
        for stage in stages:
            if stage not in rings:
                raise ValueError(f"cycle {cycle} has no stage {stage!r}; there are {_join(rings)}")

    def check_axis_place(self, cycle: str, axis: str, place: str) -> None:
        """Check that an axis has the stage `place`."""
        ladders = self.get_cycle(cycle).ladders
        if axis not in ladders:
            raise ValueError(f"cycle {cycle} has no axis {axis!r}; there are {_join(ladders)}")
        if place not in ladders[axis]:
            raise ValueError(
                f"axis {axis} has no stage {place!r}; there are {_join(ladders[axis])}"
            )

    def check_score(self, cycle: str, name: str) -> None:
        """Check that a cycle has a score."""
        scores = self.get_cycle(cycle).half_lives
        if name not in scores:
            raise ValueError(f"cycle {cycle} has no score {name!r}; there are {_join(scores)}")

    def check_signal(self, name: str) -> None:
        """Check that a signal is published by a cycle or derived from a segment."""
        published = sorted({s for cycle in self.cycles.values() for s in cycle.signals})
        if name not in published and name not in self.segment_signals:
            raise ValueError(
                f"no cycle publishes a signal {name!r} (`publish: true`); "
                f"there are {_join(published)}"
            )


def vocabulary_from_spec(spec: Mapping[str, Any]) -> CycleVocabulary:
    """Return the names in a cycle's specification, which is the parsed YAML file."""
    return CycleVocabulary(
        spec["version"],
        {stage["name"]: stage["ring"] for stage in spec["stages"]},
        {axis["name"]: tuple(stage["name"] for stage in axis["stages"]) for axis in spec["axes"]},
        {name: parse_duration(score["half_life"]) for name, score in spec["scores"].items()},
        frozenset(name for name, signal in spec["signals"].items() if signal.get("publish")),
        {
            stage["name"]: stage["guiding_question"]
            for stage in spec["stages"]
            if stage.get("guiding_question")
        },
        {stage["name"]: stage.get("owner", "") for stage in spec["stages"]},
        (spec.get("repeat") or {}).get("signal", ""),
    )


def _join(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
