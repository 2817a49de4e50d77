"""From a row of a file, or an event of a webhook, to a call: a call in YAML in which some values are taken from there.

`{column: NAME}` stands for a cell of a row, `{path: PLACE}` for a value in a JSON document (`services.ingest.domain.json_path`).

    type: track
    event: Order Completed
    userId: {column: customer}
    timestamp: {column: date, as: time, format: "%d/%m/%Y %H:%M", zone: Europe/Paris}
    properties:
      total: {column: amount, as: number, decimal: ","}
      paid: {column: paid, as: boolean, default: false}

Without a template a row's columns are the call's fields themselves, with dots between the levels: `properties.total`.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from libs.common.errors import ConfigurationError, InvalidMessage
from services.ingest.domain.json_path import get_at, parse_path

Row = Mapping[str, Any]
_PLACES = frozenset(("column", "path"))
_KEYS = frozenset(("as", "format", "zone", "decimal", "default")) | _PLACES
_KINDS = ("text", "number", "boolean", "time")
_SECONDS = 100_000_000_000
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_TRUE, _FALSE = (
    frozenset(("true", "yes", "y", "1", "oui", "x")),
    frozenset(("false", "no", "n", "0", "non")),
)


class CallMapping:
    """A checked template; `tree` is what it was made of."""

    def __init__(self, tree: Any, where: str = "the mapping") -> None:
        """Raises ConfigurationError naming the place that is wrong."""
        if not isinstance(tree, dict):
            raise ConfigurationError(f"{where}: a call is an object with type, userId, event …")
        _check(tree, where)
        self.tree = tree

    def to_call(self, row: Row) -> dict[str, Any]:
        """Return the call of a row; empty cells are not given. Raises InvalidMessage for a cell that cannot be read."""
        found = _filled(self.tree, row)
        return found if isinstance(found, dict) else {}


def call_from_columns(row: Row) -> dict[str, Any]:
    """Return the call of a row whose columns are named like the call's fields."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or value == "":
            continue
        *above, last = name.strip().split(".")
        place = found
        for level in above:
            place = place.setdefault(level, {})
            if not isinstance(place, dict):
                raise InvalidMessage("bad_column", f"column {name}: {level} is a value already")
        place[last] = value
    return found


def _check(tree: Any, where: str) -> None:
    if isinstance(tree, list):
        for number, one in enumerate(tree):
            _check(one, f"{where}[{number}]")
    if isinstance(tree, dict):
        strange = next((name for name in tree if not isinstance(name, str)), None)
        if strange is not None:
            raise ConfigurationError(f"{where}: {strange!r} is no field's name: put it in quotes")
        if _is_place(tree):
            _check_place(tree, where)
            return
        for name, one in tree.items():
            _check(one, f"{where}.{name}")


def _check_place(rule: dict[str, Any], where: str) -> None:
    unknown = sorted(set(rule) - _KEYS)
    if unknown:
        raise ConfigurationError(
            f"{where}: {', '.join(unknown)} is not known beside column or path; there are {', '.join(sorted(_KEYS))}"
        )
    if "path" in rule:
        parse_path(rule["path"], f"{where}.path")
    for name in ("column", "format", "decimal"):
        if not isinstance(rule.get(name, ""), str):
            raise ConfigurationError(f"{where}.{name}: {rule[name]!r} is no text: put it in quotes")
    if rule.get("as", "text") not in _KINDS:
        raise ConfigurationError(f"{where}: as {rule['as']!r}; one of {', '.join(_KINDS)}")
    try:
        ZoneInfo(rule.get("zone", "UTC"))
    except (ZoneInfoNotFoundError, ValueError, TypeError):
        raise ConfigurationError(f"{where}: no time zone {rule['zone']!r}") from None


def _is_place(tree: dict[str, Any]) -> bool:
    """Return whether the object stands for a value; a call may have fields of these names, whose values are no text."""
    return any(isinstance(tree.get(name), str) for name in _PLACES)


def _filled(tree: Any, row: Row) -> Any:
    """Return the tree with its cells; None where nothing is left of it."""
    if isinstance(tree, list):
        return [one for one in (_filled(part, row) for part in tree) if one is not None] or None
    if not isinstance(tree, dict):
        return tree
    if _is_place(tree):
        return _cell(tree, row)
    found = {name: one for name, part in tree.items() if (one := _filled(part, row)) is not None}
    return found or None


def _cell(rule: dict[str, Any], row: Row) -> Any:
    name = str(rule.get("column", rule.get("path")))
    if "path" in rule:
        value = get_at(parse_path(rule["path"]), row)
    elif name in row:
        value = row[name]
    else:
        raise InvalidMessage("no_column", f"the row has no column {name!r}")
    if value is None or (isinstance(value, str) and not value.strip()):
        return rule.get("default")
    kind = rule.get("as", "text")
    if kind == "time" and isinstance(value, int | float) and not isinstance(value, bool):
        return _since_1970(value)
    if kind == "text" or not isinstance(value, str):
        return value
    try:
        return _read(kind, value.strip(), rule)
    except ValueError:
        raise InvalidMessage("bad_cell", f"{name}: {value!r:.60} is no {kind}") from None


def _since_1970(value: float) -> str:
    """Return the instant of a number: seconds, or milliseconds where it is too large for them."""
    try:
        return datetime.fromtimestamp(
            value / 1_000 if abs(value) > _SECONDS else value, UTC
        ).isoformat()
    except (ValueError, OverflowError, OSError):
        raise InvalidMessage("bad_cell", f"{value!r:.60} is no time") from None


def _read(kind: str, text: str, rule: dict[str, Any]) -> Any:
    if kind == "number":
        plain_text = text.replace("\u00a0", "").replace(" ", "")
        if rule.get("decimal") == ",":
            plain_text = plain_text.replace(".", "").replace(",", ".")
        if _INTEGER.fullmatch(plain_text):
            return int(plain_text)
        number = float(plain_text)
        if not math.isfinite(number) or "_" in plain_text:
            raise ValueError(text)
        return number
    if kind == "boolean":
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError(text)
        return text.lower() in _TRUE
    moment = (
        datetime.fromisoformat(text)
        if "format" not in rule
        else datetime.strptime(text, rule["format"])  # noqa: DTZ007
    )
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(rule.get("zone", "UTC")))
    return moment.isoformat()
