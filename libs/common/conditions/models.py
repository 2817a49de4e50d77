"""The condition language as pydantic models: one model per kind, a union discriminated by key.

A condition is an object with exactly one kind as its key (`{score: intent, at_least: 10}`). The
same models serve cycles, plays, segments and ad audiences; `x-available-in` in the JSON Schema
lists those that may use a kind, so that a form offers only these. Durations are written as text
(`14d`) and read as microseconds.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    model_validator,
)

from libs.common.conditions.base import (
    EVERYWHERE,
    OUTSIDE_CYCLES,
    ConditionModel,
    Number,
    Scalar,
    condition_config,
)
from libs.common.durations import Duration

DEFAULT_CYCLE = "engagement"


class AllCondition(ConditionModel):
    """Every part holds."""

    model_config = condition_config(*EVERYWHERE)

    all: list["Condition"]


class AnyCondition(ConditionModel):
    """At least one part holds."""

    model_config = condition_config(*EVERYWHERE)

    any: list["Condition"]


class NotCondition(ConditionModel):
    """The inner condition does not hold."""

    model_config = condition_config(*EVERYWHERE)

    not_: "Condition" = Field(alias="not")


class ScoreCondition(ConditionModel):
    """A score's decayed value is at least a number, or below it. 0 is never reached by decay."""

    model_config = condition_config(*EVERYWHERE)

    score: str
    at_least: float | None = None
    below: float | None = None
    cycle: str = Field(DEFAULT_CYCLE, json_schema_extra={"x-available-in": list(OUTSIDE_CYCLES)})

    @model_validator(mode="after")
    def _check_bound(self) -> Self:
        if (self.at_least is None) == (self.below is None):
            raise ValueError("a score needs either at_least or below")
        if self.threshold == 0.0:
            raise ValueError(
                "a decayed score nears 0 without reaching it: compare with another number"
            )
        return self

    @property
    def threshold(self) -> float:
        """The number that the score is compared with."""
        bound = self.at_least if self.at_least is not None else self.below
        assert bound is not None
        return bound


class CountCondition(ConditionModel):
    """A signal was seen at least a number of times within a window; without a window, ever."""

    model_config = condition_config(*EVERYWHERE)

    count: str
    at_least: int = Field(ge=1)
    within: Duration | None = None


class SeenCondition(ConditionModel):
    """A signal was seen within a window; without a window, ever. `any`: any act of the contact."""

    model_config = condition_config(*EVERYWHERE)

    seen: str
    within: Duration | None = None


class SilentCondition(ConditionModel):
    """No such signal, or no act of the contact at all (`any`), for a duration."""

    model_config = condition_config(*EVERYWHERE)

    silent: str
    for_: Duration = Field(alias="for")


class TraitCondition(ConditionModel):
    """A trait compared in exactly one way. Cycles compare by `equals` only."""

    model_config = condition_config(*EVERYWHERE)

    trait: str
    equals: Scalar | None = None
    one_of: list[Scalar] | None = None
    at_least: Number | None = None
    at_most: Number | None = None
    known: bool | None = None

    @model_validator(mode="after")
    def _check_comparison(self) -> Self:
        if len(self.model_fields_set - {"trait"}) != 1:
            raise ValueError("a trait needs one of equals, one_of, at_least, at_most, known")
        return self

    @property
    def comparison(self) -> str:
        """The name of the comparison that is set."""
        (name,) = self.model_fields_set - {"trait"}
        return name


class AxisCondition(ConditionModel):
    """An axis stands at a stage or beyond it (`at_least`), or before it (`below`)."""

    model_config = condition_config(*EVERYWHERE)

    axis: str
    at_least: str | None = None
    below: str | None = None
    cycle: str = Field(DEFAULT_CYCLE, json_schema_extra={"x-available-in": list(OUTSIDE_CYCLES)})

    @model_validator(mode="after")
    def _check_bound(self) -> Self:
        if (self.at_least is None) == (self.below is None):
            raise ValueError("an axis needs either at_least or below")
        return self

    @property
    def stage(self) -> str:
        """The stage that the axis is compared with."""
        bound = self.at_least if self.at_least is not None else self.below
        assert bound is not None
        return bound


class StageCondition(ConditionModel):
    """The contact's engagement stage in a cycle is the given stage, or is in the given list."""

    model_config = condition_config(*OUTSIDE_CYCLES)

    stage: str | list[str]
    cycle: str = DEFAULT_CYCLE

    @property
    def stages(self) -> frozenset[str]:
        """The stages that satisfy the condition."""
        return frozenset([self.stage] if isinstance(self.stage, str) else self.stage)


class DormantCondition(ConditionModel):
    """The contact is dormant in a cycle, or is not."""

    model_config = condition_config(*OUTSIDE_CYCLES)

    dormant: bool
    cycle: str = DEFAULT_CYCLE


class ConsentCondition(ConditionModel):
    """Consent for a purpose is given, or is not."""

    model_config = condition_config(*OUTSIDE_CYCLES)

    consent: str
    given: bool = True


class SegmentCondition(ConditionModel):
    """The contact belongs to a segment."""

    model_config = condition_config(*OUTSIDE_CYCLES)

    segment: str


class IdleCondition(ConditionModel):
    """No touch by either side for a duration, and no play has a next step for the contact."""

    model_config = condition_config(*OUTSIDE_CYCLES)

    idle: Duration


class CompellingCondition(ConditionModel):
    """A compelling event of a kind, or of any kind (`any`), is open about the contact."""

    model_config = condition_config(*OUTSIDE_CYCLES)

    compelling: str


MODELS: dict[str, type[ConditionModel]] = {
    "all": AllCondition,
    "any": AnyCondition,
    "not": NotCondition,
    "stage": StageCondition,
    "axis": AxisCondition,
    "score": ScoreCondition,
    "count": CountCondition,
    "seen": SeenCondition,
    "silent": SilentCondition,
    "trait": TraitCondition,
    "dormant": DormantCondition,
    "consent": ConsentCondition,
    "segment": SegmentCondition,
    "idle": IdleCondition,
    "compelling": CompellingCondition,
}
KINDS = tuple(MODELS)
"""The kinds of conditions; a condition has exactly one of them as its key."""
_KIND_OF_MODEL = {model: kind for kind, model in MODELS.items()}


def kind_of(raw: Any) -> str | None:
    """Return the kind of a condition or an object; None unless it has exactly one kind as key."""
    if isinstance(raw, ConditionModel):
        return _KIND_OF_MODEL[type(raw)]
    kinds = [kind for kind in KINDS if kind in raw] if isinstance(raw, Mapping) else []
    return kinds[0] if len(kinds) == 1 else None


Condition = Annotated[
    Annotated[AllCondition, Tag("all")]
    | Annotated[AnyCondition, Tag("any")]
    | Annotated[NotCondition, Tag("not")]
    | Annotated[StageCondition, Tag("stage")]
    | Annotated[AxisCondition, Tag("axis")]
    | Annotated[ScoreCondition, Tag("score")]
    | Annotated[CountCondition, Tag("count")]
    | Annotated[SeenCondition, Tag("seen")]
    | Annotated[SilentCondition, Tag("silent")]
    | Annotated[TraitCondition, Tag("trait")]
    | Annotated[DormantCondition, Tag("dormant")]
    | Annotated[ConsentCondition, Tag("consent")]
    | Annotated[SegmentCondition, Tag("segment")]
    | Annotated[IdleCondition, Tag("idle")]
    | Annotated[CompellingCondition, Tag("compelling")],
    Discriminator(
        kind_of,
        custom_error_type="condition",
        custom_error_message=f"exactly one of {', '.join(KINDS)} is needed",
    ),
]
"""Any condition."""
CONDITION_ADAPTER: TypeAdapter[Condition] = TypeAdapter(Condition)
"""Validates single conditions and makes their JSON Schema."""


def parse_condition(raw: Any) -> Condition:
    """Return the condition of an object. Raises pydantic.ValidationError (a ValueError)."""
    return CONDITION_ADAPTER.validate_python(raw)
