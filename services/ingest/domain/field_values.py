"""JSON values as the values of fields: strict for ids and objects, lenient for everything else."""

import math
from typing import Any

from libs.common.errors import InvalidMessage

MAX_ID = 512
_LONGEST = 2_000


def parse_identifier(field: str, value: Any) -> str | None:
    """Return an id as text, None for null and "". Raises InvalidMessage `bad_id`."""
    if isinstance(value, str) and len(value) <= MAX_ID:
        return value or None
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidMessage("bad_id", f"{field} is a {type(value).__name__}: text is needed")
    raise InvalidMessage("bad_id", f"{field} has {len(value)} characters: at most {MAX_ID}")


def parse_mapping(field: str, value: Any) -> dict[str, Any]:
    """Return an object, an empty one for null and PHP's empty array.

    Raises InvalidMessage `bad_shape`.
    """
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise InvalidMessage(
            "bad_shape", f"{field} is a {type(value).__name__}: an object is needed"
        )
    return value


def object_list(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list, none for any other value."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def object_or_empty(value: Any) -> dict[str, Any]:
    """Return an object, an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def to_text(value: Any) -> str:
    """Return a text or number as text of at most 2,000 characters, "" for any other value."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[:_LONGEST]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)[:_LONGEST]
    return ""


def to_number(value: Any) -> float | None:
    """Return a finite number, also from a text, None for any other value."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def number_within(value: Any, least: float, most: float) -> float | None:
    """Return a number between two bounds, None for any other value."""
    number = to_number(value)
    return number if number is not None and least <= number <= most else None
