"""The specification of a play (YAML or JSON): its trigger, entry criteria, steps and exits."""

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
from services.orchestrator.domain.action_spec import ActionSpec, IdentifierName, StrictModel
from services.orchestrator.domain.local_time import Weekday


class StageMatch(StrictModel):
    """A stage change of a cycle; a field that is left out matches every value."""

    cycle: str = "engagement"
    to: str | None = None
    from_: str | None = Field(None, alias="from")
    axis: str | None = None
    """Match changes of this axis instead of changes of the engagement stage."""
    direction: Direction | None = None


class CompellingEventTrigger(StrictModel):
    """A compelling event of a kind that is raised, updated or nearing its date."""

    kind: str
    on: list[Literal["raised", "updated", "nearing"]] = Field(["raised"], min_length=1)


class SilenceTrigger(StrictModel):
    """No signal `of` this name (by default no touchpoint of the contact at all) for a duration."""

    of: str = "any"
    for_: Duration = Field(alias="for")


class DateTrigger(StrictModel):
    """An instant `before` a date among the contact's traits.

    The date is RFC 3339; a date without a time starts in the contact's time zone.
    """

    trait: str
    before: Duration = 0


class PlayTrigger(StrictModel):
    """The trigger of a play: a published message, or an instant.

    Messages are signals, stage changes with an ordinary reason, entries into a segment, and
    compelling events; an event about an account reaches its members, one about a market every
    contact. Instants are a silence, a date, or one instant for all contacts (`schedule`). The
    entry criteria select among the contacts.
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
        """Return whether the trigger needs periodic sweeps over the contacts."""
        return self.silence is not None or self.date is not None


class ExitRule(StrictModel):
    """An event or a condition that ends an enrollment at once and cancels its pending actions."""

    signal: str | None = None
    stage_change: StageMatch | None = None
    when: Condition | None = None

    @model_validator(mode="after")
    def _just_one(self) -> "ExitRule":
        if sum(part is not None for part in (self.signal, self.stage_change, self.when)) != 1:
            raise ValueError("exactly one of signal, stage_change, when is needed")
        return self


class Goal(StrictModel):
    """The goal: a signal or a condition that must occur `within` a duration after the entry."""

    signal: str | None = None
    when: Condition | None = None
    within: Duration
    ends: bool = True
    """Whether reaching the goal ends the enrollment."""

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
    """Continue after a duration."""

    wait: Duration


class LocalTimeWait(StrictModel):
    """Continue at a time of day in the contact's time zone.

    The day is one of `weekdays` and at least `days` calendar days later.
    """

    time: Annotated[time, BeforeValidator(_written_time, json_schema_input_type=str)]
    days: int = Field(0, ge=0, le=366)
    weekdays: list[Weekday] = Field(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], min_length=1)


class EventWait(StrictModel):
    """Continue when a signal arrives or a condition holds, at the latest after `timeout`."""

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
    """Wait for a local time or an event; `timed_out` holds the steps that follow a timeout."""

    wait_until: Annotated[
        Annotated[LocalTimeWait, Tag("time")] | Annotated[EventWait, Tag("awaited")],
        Discriminator(_kind_of_wait),
    ]
    timed_out: list["Step"] = Field([])


class BranchCase(StrictModel):
    """Steps of the contacts for which a condition holds."""

    when: Condition
    steps: list["Step"]


class BranchStep(StrictModel):
    """Run the first case that holds, else `otherwise`."""

    branch: list[BranchCase] = Field(min_length=1)
    otherwise: list["Step"] = Field([])


class SplitArm(StrictModel):
    """A share of the contacts, assigned by a hash of play, step and contact."""

    share: float = Field(gt=0, le=1)
    steps: list["Step"] = Field([])


class SplitStep(StrictModel):
    """Random arms, always the same one for a contact; contacts outside the shares continue."""

    split: dict[IdentifierName, SplitArm] = Field(min_length=1)

    @field_validator("split")
    @classmethod
    def _at_most_all(cls, arms: dict[str, SplitArm]) -> dict[str, SplitArm]:
        total = sum(part.share for part in arms.values())
        if total > 1.000001:
            raise ValueError(f"the shares come to {total:g}, which is more than 1")
        return arms


class ExitStep(StrictModel):
    """End the enrollment with a reason."""

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
    """A play."""

    play: IdentifierName
    kind: Literal["broadcast", "segment", "automated", "predictive"] = "automated"
    trigger: PlayTrigger
    entry: Condition | None = None
    """The entry criteria."""
    exits: list[ExitRule] = Field([])
    goal: Goal | None = None
    max_age: Duration = 86_400_000_000
    """In microseconds; an older trigger starts no enrollment."""
    re_entry: Literal["never", "after_exit", "always"] = "never"
    cool_down: Duration = 0
    """The least time between two entries of a contact, in microseconds."""
    priority: int = Field(0, ge=-100, le=100)
    """The play with the higher priority wins a contested placement."""
    holdout: float = Field(0.0, ge=0, lt=1)
    per_hour: int | None = Field(None, ge=1)
    """The most contacts that a sweep over all contacts evaluates in an hour: a broadcast's pace."""
    steps: list[Step] = Field(min_length=1)

    @model_validator(mode="after")
    def _pace_needs_a_broadcast(self) -> "Play":
        if (
            self.per_hour is not None
            and self.trigger.schedule is None
            and self.trigger.compelling_event is None
        ):
            raise ValueError(
                "per_hour needs a trigger that reaches all contacts: "
                "a schedule, or an event about a market"
            )
        return self
