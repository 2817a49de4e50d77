"""Corrections: what a person says about what was recorded. They are appended, and the last one about a thing holds.

`bot` and `exclude` change how a touchpoint is folded, `human` and `include` take that back. A manual `stage` is folded at
its own instant, key (occurred_at, `correction`, id): the axis stands where the seller says until `hold` is over, and then
the rules go on.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.identity import Key
from services.scoring.domain.signal_classifier import FoldEvent

SOURCE = "correction"
Kind = Literal["bot", "human", "exclude", "include", "stage", "link", "unlink"]


class TouchpointVerdict(msgspec.Struct):
    """What corrections say of one touchpoint; None where they say nothing."""

    bot: bool | None = None
    excluded: bool | None = None

    def apply(self, kind: Kind) -> None:
        """Take in one more correction, in the order of recording."""
        if kind in ("bot", "human"):
            self.bot = kind == "bot"
        else:
            self.excluded = kind == "exclude"


class ManualStage(msgspec.Struct, frozen=True):
    """A stage set by hand: {axis: stage}, held until `until`."""

    number: int
    occurred_at: int
    recorded_at: int
    cycle: str
    places: dict[str, str]
    until: int

    @property
    def key(self) -> Key:
        """Return where it stands in the one order."""
        return correction_key(self.occurred_at, self.number)


def correction_key(occurred_at: int, number: int) -> Key:
    """Return the key of a correction that takes part in a fold: at one instant they go in the order of recording."""
    return (occurred_at, SOURCE, f"{number:012d}")


def apply_verdicts(
    touchpoints: Iterable[Touchpoint], verdicts: Mapping[Key, TouchpointVerdict]
) -> list[Touchpoint]:
    """Return the touchpoints as corrections leave them."""
    if not verdicts:
        return list(touchpoints)
    found = []
    for touchpoint in touchpoints:
        verdict = verdicts.get(touchpoint.key, TouchpointVerdict())
        if not verdict.excluded:
            bot = touchpoint.is_bot if verdict.bot is None else verdict.bot
            found.append(
                msgspec.structs.replace(touchpoint, is_bot=bot)
                if bot != touchpoint.is_bot
                else touchpoint
            )
    return found


def manual_stage_events(engine: CompiledCycle, manuals: Sequence[ManualStage]) -> list[FoldEvent]:
    """Return the manual stages of a cycle as the fold takes them; an axis or stage the cycle no longer has is left out."""
    found = []
    for manual in manuals:
        if manual.cycle != engine.name:
            continue
        places = []
        for axis in engine.axes:
            names = [place.name for place in axis.places]
            wanted = manual.places.get(axis.name)
            if wanted in names:
                places.append((axis.number, names.index(wanted), manual.until))
        if places:
            found.append(FoldEvent(*manual.key, (), False, {}, tuple(places)))
    return found
