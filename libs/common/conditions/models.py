"""The condition language as pydantic models: one model per kind, a union discriminated by key.

A condition is an object with exactly one kind as its key (`{score: intent, at_least: 10}`). The
same models serve cycles, plays, segments and ad audiences; `x-available-in` in the JSON Schema
says which of them may use a kind, so that a form offers only those. Durations are written as text
(`14d`) and read as microseconds.

A model keeps the object it was read from (`written`) and serializes to it: fingerprints of cycle
versions and marks of segments depend on the written form, not on how models order their fields.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PrivateAttr,
    Tag,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from libs.common.durations import Duration

DEFAULT_CYCLE = "engagement"
EVERYWHERE = ("cycle", "play", "segment")
OUTSIDE_CYCLES = ("play", "segment")


def _date_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, date) else value


Scalar = Annotated[str | bool | int | float, BeforeValidator(_date_as_text)]
"""A trait's value; a YAML date is its text."""


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a number is needed, not {value!r}")  # noqa: TRY004
    return value


Number = Annotated[float, BeforeValidator(_number, json_schema_input_type=float)]


class ConditionModel(BaseModel):
    """Base of every kind of condition."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    _written: dict[str, JsonValue] | None = PrivateAttr(default=None)

    @property
    def written(self) -> dict[str, JsonValue]:
        """The object that the condition was read from."""
        if self._written is not None:
            return self._written
        fields = {
            field.alias or name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if name in self.model_fields_set
        }
        return {name: _as_written(value) for name, value in fields.items()}

    @model_validator(mode="wrap")
    @classmethod
    def _keep_written(cls, raw: Any, validate: Callable[[Any], Self]) -> Self:
        model = validate(raw)
        if isinstance(raw, Mapping):
            model._written = dict(raw)  # noqa: SLF001
        return model

    @model_serializer(mode="plain")
    def _serialize(self) -> dict[str, Any]:
        return self.written


def _as_written(value: Any) -> Any:
    if isinstance(value, ConditionModel):
        return value.written
    return [_as_written(part) for part in value] if isinstance(value, list) else value


def _config(*available_in: str) -> ConfigDict:
    return ConfigDict(json_schema_extra={"x-available-in": list(available_in)})


class AllCondition(ConditionModel):
    """Every part holds."""

    model_config = _config(*EVERYWHERE)

    all: list["Condition"]


class AnyCondition(ConditionModel):
    """At least one part holds."""

    model_config = _config(*EVERYWHERE)

    any: list["Condition"]


class NotCondition(ConditionModel):
    """The inner condition does not hold."""

    model_config = _config(*EVERYWHERE)

    not_: "Condition" = Field(alias="not")


class ScoreCondition(ConditionModel):
    """A score's decayed value is at least a number, or below it. 0 is never reached by decay."""

    model_config = _config(*EVERYWHERE)

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
    """A signal was seen at least so many times within a window; without one, ever."""

    model_config = _config(*EVERYWHERE)

    count: str
    at_least: int = Field(ge=1)
    within: Duration | None = None


class SeenCondition(ConditionModel):
    """A signal was seen within a window; without one, ever. `any` is any act of the contact."""

    model_config = _config(*EVERYWHERE)

    seen: str
    within: Duration | None = None


class SilentCondition(ConditionModel):
    """No such signal, or no act of the contact at all (`any`), for so long."""

    model_config = _config(*EVERYWHERE)

    silent: str
    for_: Duration = Field(alias="for")


class TraitCondition(ConditionModel):
    """A trait compared in exactly one way. Cycles compare by `equals` alone."""

    model_config = _config(*EVERYWHERE)

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
        """The name of the one comparison that is set."""
        (name,) = self.model_fields_set - {"trait"}
        return name


class AxisCondition(ConditionModel):
    """An axis stands at a stage or beyond it (`at_least`), or before it (`below`)."""

    model_config = _config(*EVERYWHERE)

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
    """The contact's engagement stage in a cycle is this one, or one of these."""

    model_config = _config(*OUTSIDE_CYCLES)

    stage: str | list[str]
    cycle: str = DEFAULT_CYCLE

    @property
    def stages(self) -> frozenset[str]:
        """The stages that fit."""
        return frozenset([self.stage] if isinstance(self.stage, str) else self.stage)


class DormantCondition(ConditionModel):
    """The contact is dormant in a cycle, or is not."""

    model_config = _config(*OUTSIDE_CYCLES)

    dormant: bool
    cycle: str = DEFAULT_CYCLE


class ConsentCondition(ConditionModel):
    """Consent for a purpose is given, or is not."""

    model_config = _config(*OUTSIDE_CYCLES)

    consent: str
    given: bool = True


class SegmentCondition(ConditionModel):
    """The contact belongs to a segment."""

    model_config = _config(*OUTSIDE_CYCLES)

    segment: str


class IdleCondition(ConditionModel):
    """No touch by either side for so long, and no play has a next step for the contact."""

    model_config = _config(*OUTSIDE_CYCLES)

    idle: Duration


class CompellingCondition(ConditionModel):
    """A compelling event of a kind, or of any kind (`any`), is open about the contact."""

    model_config = _config(*OUTSIDE_CYCLES)

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
"""The keys of which a condition has exactly one."""
_KIND_OF_MODEL = {model: kind for kind, model in MODELS.items()}


def kind_of(raw: Any) -> str | None:
    """Return the kind of a condition or of an object that may be one; None where none is clear."""
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
    """Return the condition that an object means. Raises pydantic.ValidationError (a ValueError)."""
    return CONDITION_ADAPTER.validate_python(raw)
