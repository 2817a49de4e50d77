"""The words that the live cycles define: what a play may name. Read from the cycles' own specifications."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from libs.common.durations import parse_duration


class CycleVocabulary(msgspec.Struct, frozen=True):
    """One live cycle: its stages with their rings, its axes with their ladders, its scores, its published signals."""

    version: str
    rings: Mapping[str, int]
    ladders: Mapping[str, Sequence[str]]
    half_lives: Mapping[str, int]
    """Of each score (µs), in the order in which a state keeps them."""
    signals: frozenset[str]
    questions: Mapping[str, str] = {}
    """What somebody in each stage asks."""
    owners: Mapping[str, str] = {}
    """Who looks after each stage."""
    success: str = ""
    """The signal that opens the next instance: what a cycle is for."""


class CycleVocabularies(msgspec.Struct, frozen=True):
    """The live cycles of contacts. Each question raises ValueError naming what there is instead."""

    cycles: Mapping[str, CycleVocabulary]
    coming: frozenset[str] = frozenset()
    """The signals of coming into segments and leaving them."""
    asked: bool = False
    """Whether a condition of a play asks for what is gathered only then."""

    def get_cycle(self, name: str) -> CycleVocabulary:
        """Return a cycle's words."""
        if name not in self.cycles:
            raise ValueError(f"no cycle {name!r}; there are {_list(self.cycles)}")
        return self.cycles[name]

    def check_stages(self, cycle: str, wanted: Iterable[str]) -> None:
        """Check stages of a cycle."""
        known = self.get_cycle(cycle).rings
        for stage in wanted:
            if stage not in known:
                raise ValueError(f"cycle {cycle} has no stage {stage!r}; there are {_list(known)}")

    def check_axis_place(self, cycle: str, axis: str, place: str) -> None:
        """Check a place on an axis."""
        ladders = self.get_cycle(cycle).ladders
        if axis not in ladders:
            raise ValueError(f"cycle {cycle} has no axis {axis!r}; there are {_list(ladders)}")
        if place not in ladders[axis]:
            raise ValueError(
                f"axis {axis} has no stage {place!r}; there are {_list(ladders[axis])}"
            )

    def check_score(self, cycle: str, name: str) -> None:
        """Check a score."""
        known = self.get_cycle(cycle).half_lives
        if name not in known:
            raise ValueError(f"cycle {cycle} has no score {name!r}; there are {_list(known)}")

    def check_signal(self, name: str) -> None:
        """Check a signal: only those that a cycle publishes are told to plays."""
        known = sorted({signal for words in self.cycles.values() for signal in words.signals})
        if name not in known and name not in self.coming:
            raise ValueError(
                f"no cycle publishes a signal {name!r} (`publish: true`); there are {_list(known)}"
            )


def vocabulary_from_spec(spec: Mapping[str, Any]) -> CycleVocabulary:
    """Return the words of a cycle's specification, as its file has it."""
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


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
