"""How a value of any JSON becomes what a field takes: strictly where a wrong one might mean somebody else, else as it can be."""

import math
from typing import Any

from libs.common.errors import InvalidMessage

MAX_ID = 512
_LONGEST = 2_000


def parse_identifier(field: str, value: Any) -> str | None:
    """Return an id as text; null, "" and absence all mean that it was not given. Raises InvalidMessage `bad_id`."""
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
    """Return an object; null, absence and PHP's empty array mean an empty one. Raises InvalidMessage `bad_shape`."""
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise InvalidMessage(
            "bad_shape", f"{field} is a {type(value).__name__}: an object is needed"
        )
    return value


def object_list(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; what is no list has none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def object_or_empty(value: Any) -> dict[str, Any]:
    """Return an object; what is none is an empty one."""
    return value if isinstance(value, dict) else {}


def to_text(value: Any) -> str:
    """Return a text, or a number as text, cut off where nobody reads on; anything else is empty."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[:_LONGEST]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)[:_LONGEST]
    return ""


def to_number(value: Any) -> float | None:
    """Return a finite number, also of a text that is one; anything else is none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def number_within(value: Any, least: float, most: float) -> float | None:
    """Return a number between two bounds; anything else is none."""
    found = to_number(value)
    return found if found is not None and least <= found <= most else None
