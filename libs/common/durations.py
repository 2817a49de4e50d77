"""Durations as written in configuration: 90s, 15m, 1h, 30d."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_PATTERN = r"(\d+)(us|ms|[smhd])"
_UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}


def parse_duration(value: Any) -> int:
    """Return microseconds. Raises ValueError unless the value is a positive number with a unit.

    >>> parse_duration("90s")
    90000000
    """
    match = re.fullmatch(_PATTERN, value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{value!r} is no duration: write 90s, 15m, 1h or 30d")
    return int(match[1]) * _UNITS[match[2]]


Duration = Annotated[
    int,
    BeforeValidator(
        parse_duration, json_schema_input_type=Annotated[str, Field(pattern=f"^{_PATTERN}$")]
    ),
]
"""A field of a configuration model: text in the file, microseconds in the model."""


def parse_overlap(value: Any) -> int:
    """Return microseconds of a duration that may be nothing (`0`, `0s`). Raises ValueError.

    >>> parse_overlap("0s")
    0
    """
    return 0 if value in ("0", "0s") else parse_duration(value)


Overlap = Annotated[
    int,
    BeforeValidator(
        parse_overlap, json_schema_input_type=Annotated[str, Field(pattern=f"^({_PATTERN}|0)$")]
    ),
]
"""Validity of an old key beside its successor: text in requests, microseconds in models."""
