"""A play as a marketer writes it (YAML or JSON): who enters on what, which steps follow, what ends it."""

from datetime import time
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from libs.common.conditions import Condition
from libs.common.durations import Duration
from libs.common.messages.stage_change import Direction
from services.orchestrator.domain.action import ActionSpec, IdentifierName, StrictModel
from services.orchestrator.domain.local_time import Weekday


class StageMatch(StrictModel):
    """A move in a cycle; what is not given does not matter."""

    cycle: str = "engagement"
    to: str | None = None
    from_: str | None = Field(None, alias="from")
    axis: str | None = None
    """The move of this axis is meant, not that of the whole."""
    direction: Direction | None = None


class CompellingEventTrigger(StrictModel):
    """A compelling event of a kind, when it is raised, or when its date nears."""

    kind: str
    on: list[Literal["raised", "updated", "nearing"]] = Field(["raised"], min_length=1)


class SilenceTrigger(StrictModel):
    """Nothing of a contact's own, or no such signal, for so long."""

    of: str = "any"
    for_: Duration = Field(alias="for")


class DateTrigger(StrictModel):
    """A date among the contact's traits (RFC 3339; a day begins where the contact is), so long before it comes."""

    trait: str
    before: Duration = 0


class PlayTrigger(StrictModel):
    """What starts a play: something published, or a moment.

    Published is a signal, a stage change with an ordinary reason, a compelling event. An event about an account reaches its
    members, one about a market everybody. Coming into a segment is published too. A moment is a silence, a date, or an instant
    that is the same for everybody (`schedule`). The entry criteria say who of them is meant.
    """

    signal: str | None = None
    stage_change: StageMatch | None = None
    compelling_event: CompellingEventTrigger | None = None
    silence: SilenceTrigger | None = None
    date: DateTrigger | None = None
    segment: str | None = None
    schedule: AwareDatetime | None = None

    @model_validator(mode="after")
    def _just_one(self) -> "PlayTrigger":
        if sum(getattr(self, name) is not None for name in type(self).model_fields) != 1:
            raise ValueError(f"exactly one of {', '.join(type(self).model_fields)} is needed")
        return self

    @property
    def is_timed(self) -> bool:
        """Return whether contacts have to be looked at for it, again and again."""
        return self.silence is not None or self.date is not None


class ExitRule(StrictModel):
    """What ends an enrollment at once, with all that is pending: an event, or a condition that holds."""

    signal: str | None = None
    stage_change: StageMatch | None = None
    when: Condition | None = None

    @model_validator(mode="after")
    def _just_one(self) -> "ExitRule":
        if sum(part is not None for part in (self.signal, self.stage_change, self.when)) != 1:
            raise ValueError("exactly one of signal, stage_change, when is needed")
        return self


class Goal(StrictModel):
    """What the play is for: a signal, or a condition that comes true, within so long after the entry."""

    signal: str | None = None
    when: Condition | None = None
    within: Duration
    ends: bool = True
    """Whether who reached it leaves the play."""

    @model_validator(mode="after")
    def _just_one(self) -> "Goal":
        if (self.signal is None) == (self.when is None):
            raise ValueError("exactly one of signal, when is needed")
        return self


def _written_time(raw: Any) -> Any:
    if not isinstance(raw, str | time):
        raise ValueError(  # noqa: TRY004
            'a time is written in quotes: "09:30" (without them YAML reads 10:00 as 600)'
        )
    return raw


class WaitStep(StrictModel):
    """Goes on after so long."""

    wait: Duration


class LocalTimeWait(StrictModel):
    """Goes on when it is this time where the contact is, on one of the weekdays, so many calendar days later at least."""

    time: Annotated[time, BeforeValidator(_written_time, json_schema_input_type=str)]
    days: int = Field(0, ge=0, le=366)
    weekdays: list[Weekday] = Field(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], min_length=1)


class EventWait(StrictModel):
    """Goes on when a signal comes or a condition holds, or when the time is over."""

    signal: str | None = None
    when: Condition | None = None
    timeout: Duration

    @model_validator(mode="after")
    def _just_one(self) -> "EventWait":
        if (self.signal is None) == (self.when is None):
            raise ValueError("exactly one of signal, when is needed")
        return self


def _kind_of_wait(raw: Any) -> str:
    return (
        "time"
        if isinstance(raw, LocalTimeWait) or (isinstance(raw, dict) and "time" in raw)
        else "awaited"
    )


class WaitUntilStep(StrictModel):
    """Waits for a local time, or for something to happen; `timed_out` are the steps for when it did not."""

    wait_until: Annotated[
        Annotated[LocalTimeWait, Tag("time")] | Annotated[EventWait, Tag("awaited")],
        Discriminator(_kind_of_wait),
    ]
    timed_out: list["Step"] = Field([])


class BranchCase(StrictModel):
    """Steps for those for whom a condition holds."""

    when: Condition
    steps: list["Step"]


class BranchStep(StrictModel):
    """The first case that holds, else `otherwise`."""

    branch: list[BranchCase] = Field(min_length=1)
    otherwise: list["Step"] = Field([])


class SplitArm(StrictModel):
    """A part of the contacts, by hash of play, step and contact."""

    share: float = Field(gt=0, le=1)
    steps: list["Step"] = Field([])


class SplitStep(StrictModel):
    """Parts that the contacts fall into by chance, always the same one for a contact; what is left goes on."""

    split: dict[IdentifierName, SplitArm] = Field(min_length=1)

    @field_validator("split")
    @classmethod
    def _at_most_all(cls, arms: dict[str, SplitArm]) -> dict[str, SplitArm]:
        total = sum(part.share for part in arms.values())
        if total > 1.000001:
            raise ValueError(f"the shares come to {total:g}, which is more than 1")
        return arms


class ExitStep(StrictModel):
    """Ends the enrollment, with a reason."""

    exit: str


_STEPS = ("wait", "wait_until", "branch", "split", "action", "exit")


def _kind_of_step(raw: Any) -> str | None:
    names = raw.keys() if isinstance(raw, dict) else type(raw).model_fields.keys()
    return next((kind for kind in _STEPS if kind in names), None)


Step = Annotated[
    Annotated[WaitStep, Tag("wait")]
    | Annotated[WaitUntilStep, Tag("wait_until")]
    | Annotated[BranchStep, Tag("branch")]
    | Annotated[SplitStep, Tag("split")]
    | Annotated[ActionSpec, Tag("action")]
    | Annotated[ExitStep, Tag("exit")],
    Discriminator(
        _kind_of_step,
        custom_error_type="unknown_step",
        custom_error_message=f"no such step; there are {', '.join(_STEPS)}",
    ),
]


class Play(StrictModel):
    """A whole play."""

    play: IdentifierName
    kind: Literal["broadcast", "segment", "automated", "predictive"] = "automated"
    trigger: PlayTrigger
    entry: Condition | None = None
    """Who may enter."""
    exits: list[ExitRule] = Field([])
    goal: Goal | None = None
    max_age: Duration = 86_400_000_000
    """Older causes start nothing."""
    re_entry: Literal["never", "after_exit", "always"] = "never"
    cool_down: Duration = 0
    """Between two entries of a contact."""
    priority: int = Field(0, ge=-100, le=100)
    """Who goes first when two plays want the same place."""
    holdout: float = Field(0.0, ge=0, lt=1)
    per_hour: int | None = Field(None, ge=1)
    """So many contacts are looked at in an hour, at most, where everybody is: a broadcast that does not come all at once."""
    steps: list[Step] = Field(min_length=1)

    @model_validator(mode="after")
    def _takes_its_time_with_everybody(self) -> "Play":
        if (
            self.per_hour is not None
            and self.trigger.schedule is None
            and self.trigger.compelling_event is None
        ):
            raise ValueError(
                "per_hour is for what reaches everybody: a schedule, or an event about a market"
            )
        return self
