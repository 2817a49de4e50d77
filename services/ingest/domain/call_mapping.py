"""Call mapping: a tracking call in YAML, filled from a row of a file or an event of a webhook.

`{column: NAME}` stands for a cell of a row, `{path: PATH}` for a value in a JSON document
(`services.ingest.domain.json_path`).

    type: track
    event: Order Completed
    userId: {column: customer}
    timestamp: {column: date, as: time, format: "%d/%m/%Y %H:%M", zone: Europe/Paris}
    properties:
      total: {column: amount, as: number, decimal: ","}
      paid: {column: paid, as: boolean, default: false}

Without a mapping the names of a row's columns are the call's fields, with dots between the levels:
`properties.total`.
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
_REFERENCES = frozenset(("column", "path"))
_KEYS = frozenset(("as", "format", "zone", "decimal", "default")) | _REFERENCES
_KINDS = ("text", "number", "boolean", "time")
_SECONDS = 100_000_000_000
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_TRUE, _FALSE = (
    frozenset(("true", "yes", "y", "1", "oui", "x")),
    frozenset(("false", "no", "n", "0", "non")),
)


class CallMapping:
    """A checked mapping; `tree` is the YAML document it was built from."""

    def __init__(self, tree: Any, where: str = "the mapping") -> None:
        """Raises ConfigurationError that names the wrong part."""
        if not isinstance(tree, dict):
            raise ConfigurationError(f"{where}: a call is an object with type, userId, event …")
        _check(tree, where)
        self.tree = tree

    def to_call(self, row: Row) -> dict[str, Any]:
        """Return the call of a row, without the fields of empty cells.

        Raises InvalidMessage for an unreadable cell.
        """
        call = _fill(self.tree, row)
        return call if isinstance(call, dict) else {}


def call_from_columns(row: Row) -> dict[str, Any]:
    """Return the call of a row whose columns have the names of the call's fields."""
    call: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or value == "":
            continue
        *levels, last = name.strip().split(".")
        parent = call
        for level in levels:
            parent = parent.setdefault(level, {})
            if not isinstance(parent, dict):
                raise InvalidMessage("bad_column", f"column {name}: {level} is a value already")
        parent[last] = value
    return call


def _check(tree: Any, where: str) -> None:
    if isinstance(tree, list):
        for number, item in enumerate(tree):
            _check(item, f"{where}[{number}]")
    if isinstance(tree, dict):
        wrong_key = next((name for name in tree if not isinstance(name, str)), None)
        if wrong_key is not None:
            raise ConfigurationError(f"{where}: {wrong_key!r} is no field's name: put it in quotes")
        if _is_reference(tree):
            _check_reference(tree, where)
            return
        for name, value in tree.items():
            _check(value, f"{where}.{name}")


def _check_reference(rule: dict[str, Any], where: str) -> None:
    unknown = sorted(set(rule) - _KEYS)
    if unknown:
        raise ConfigurationError(
            f"{where}: {', '.join(unknown)} is not known beside column or path; "
            f"there are {', '.join(sorted(_KEYS))}"
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


def _is_reference(tree: dict[str, Any]) -> bool:
    """Return whether the object refers to a value.

    A call may have fields of the same names, whose values are not text.
    """
    return any(isinstance(tree.get(name), str) for name in _REFERENCES)


def _fill(tree: Any, row: Row) -> Any:
    """Return the tree with its references resolved; None if it is empty then."""
    if isinstance(tree, list):
        items = [_fill(part, row) for part in tree]
        return [item for item in items if item is not None] or None
    if not isinstance(tree, dict):
        return tree
    if _is_reference(tree):
        return _cell(tree, row)
    members = {name: _fill(part, row) for name, part in tree.items()}
    return {name: value for name, value in members.items() if value is not None} or None


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
    """Return the instant of a number of seconds, or of milliseconds if it is too large."""
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
