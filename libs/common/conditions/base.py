"""The base of the condition models: types of values, and the written form that a model keeps.

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
    JsonValue,
    PrivateAttr,
    model_serializer,
    model_validator,
)

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


def condition_config(*available_in: str) -> ConfigDict:
    """Return the configuration of a kind that the named documents may use."""
    return ConfigDict(json_schema_extra={"x-available-in": list(available_in)})
