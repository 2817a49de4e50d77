"""Corrections: an operator's statements about recorded data, appended and never updated.

The last correction recorded about a subject wins. `bot` and `exclude` change how a touchpoint is
folded; `human` and `include` revoke them. A manual `stage` is folded at its own instant, with the
key (occurred_at, `correction`, id): the axis stays where the operator set it until the hold ends,
and then follows the cycle's rules again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.identity import Key
from services.scoring.domain.signal_classifier import FoldEvent

SOURCE = "correction"
"""The source in the keys of corrections that are folded."""
Kind = Literal["bot", "human", "exclude", "include", "stage", "link", "unlink"]


class TouchpointVerdict(msgspec.Struct):
    """The effect of all corrections of one touchpoint; None where no correction applies."""

    bot: bool | None = None
    excluded: bool | None = None

    def apply(self, kind: Kind) -> None:
        """Apply the next correction, in the order of recording."""
        if kind in ("bot", "human"):
            self.bot = kind == "bot"
        else:
            self.excluded = kind == "exclude"


class ManualStage(msgspec.Struct, frozen=True):
    """A stage set by hand: `places` is {axis: stage}, valid until `until`.

    `number` is the correction's id. Instants are microseconds UTC.
    """

    number: int
    occurred_at: int
    recorded_at: int
    cycle: str
    places: dict[str, str]
    until: int

    @property
    def key(self) -> Key:
        """Return the correction's key in the fold order."""
        return correction_key(self.occurred_at, self.number)


def correction_key(occurred_at: int, number: int) -> Key:
    """Return the fold key of a correction; at one instant corrections sort by id."""
    return (occurred_at, SOURCE, f"{number:012d}")


def apply_verdicts(
    touchpoints: Iterable[Touchpoint], verdicts: Mapping[Key, TouchpointVerdict]
) -> list[Touchpoint]:
    """Return the touchpoints without the excluded ones, with `is_bot` as corrected."""
    if not verdicts:
        return list(touchpoints)
    corrected = []
    for touchpoint in touchpoints:
        verdict = verdicts.get(touchpoint.key, TouchpointVerdict())
        if not verdict.excluded:
            bot = touchpoint.is_bot if verdict.bot is None else verdict.bot
            corrected.append(
                msgspec.structs.replace(touchpoint, is_bot=bot)
                if bot != touchpoint.is_bot
                else touchpoint
            )
    return corrected


def manual_stage_events(cycle: CompiledCycle, manuals: Sequence[ManualStage]) -> list[FoldEvent]:
    """Return the manual stages of one cycle as fold events.

    Axes and stages that the cycle no longer has are ignored.
    """
    events = []
    for manual in manuals:
        if manual.cycle != cycle.name:
            continue
        settings = []
        for axis in cycle.axes:
            stage_names = [stage.name for stage in axis.places]
            stage_name = manual.places.get(axis.name)
            if stage_name in stage_names:
                settings.append((axis.number, stage_names.index(stage_name), manual.until))
        if settings:
            events.append(FoldEvent(*manual.key, (), False, {}, tuple(settings)))
    return events
