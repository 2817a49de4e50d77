"""Corrections: what a person says about what was recorded. They are appended, and the last one about a thing holds.

`bot` and `exclude` change how a touchpoint is folded, `human` and `include` take that back. A manual `stage` is folded at
its own instant, key (occurred_at, `correction`, id): the axis stands where the seller says until `hold` is over, and then
the rules go on.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.classify import Occurrence
from services.scoring.domain.engine import Engine
from services.scoring.domain.identity import Key

SOURCE = "correction"
Kind = Literal["bot", "human", "exclude", "include", "stage", "link", "unlink"]


class Verdict(msgspec.Struct):
    """What corrections say of one touchpoint; None where they say nothing."""

    bot: bool | None = None
    excluded: bool | None = None

    def hear(self, kind: Kind) -> None:
        """Take in one more correction, in the order of recording."""
        if kind in ("bot", "human"):
            self.bot = kind == "bot"
        else:
            self.excluded = kind == "exclude"


class Manual(msgspec.Struct, frozen=True):
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
        return key_of(self.occurred_at, self.number)


def key_of(occurred_at: int, number: int) -> Key:
    """Return the key of a correction that takes part in a fold: at one instant they go in the order of recording."""
    return (occurred_at, SOURCE, f"{number:012d}")


def corrected(touchpoints: Iterable[Touchpoint], verdicts: Mapping[Key, Verdict]) -> list[Touchpoint]:
    """Return the touchpoints as corrections leave them."""
    if not verdicts:
        return list(touchpoints)
    found = []
    for touchpoint in touchpoints:
        verdict = verdicts.get(touchpoint.key, Verdict())
        if not verdict.excluded:
            bot = touchpoint.is_bot if verdict.bot is None else verdict.bot
            found.append(msgspec.structs.replace(touchpoint, is_bot=bot) if bot != touchpoint.is_bot else touchpoint)
    return found


def by_hand(engine: Engine, manuals: Sequence[Manual]) -> list[Occurrence]:
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
            found.append(Occurrence(*manual.key, (), False, {}, tuple(places)))
    return found
