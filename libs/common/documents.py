"""Parsing of YAML and JSON documents into pydantic models; every fault has its place.

A fault reads `file:line:column: place: reason`. Lines and columns count from 1. An item of a list
is shown by its `name` where it has one, else by its index.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from libs.common.errors import ConfigurationError

M = TypeVar("M", bound=BaseModel)
_REASONS = {
    "missing": "this key is needed",
    "extra_forbidden": "no such key",
    "greater_than": "more than {gt} is needed",
    "greater_than_equal": "{ge} or more is needed",
    "less_than": "less than {lt} is needed",
    "less_than_equal": "{le} or less is needed",
    "string_type": "a text is needed",
    "bool_type": "true or false is needed",
    "list_type": "a list is needed",
    "dict_type": "an object is needed",
    "model_type": "an object is needed",
    "literal_error": "{expected} is needed",
    "too_short": "{min_length} or more are needed",
    "too_long": "{max_length} or fewer are needed",
}
"""Reasons in plain words, by pydantic's error type; any other error keeps its own message."""
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentFault(ConfigurationError):  # noqa: N818
    """A fault of a parsed document, with its place and reason."""

    def __init__(self, subject: str, place: Sequence[str | int], reason: str) -> None:
        super().__init__(f"{subject}: {'.'.join(map(str, place))}: {reason}")
        self.place = tuple(place)
        self.reason = reason


def load_yaml(text: str, where: str) -> Any:
    """Return a YAML document's value. Raises ConfigurationError naming line and column."""
    try:
        return yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        position = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or error
        raise ConfigurationError(f"{where}{position}: not YAML: {reason}") from None
    except (ValueError, RecursionError) as error:  # lone surrogates, impossible dates, deep nesting
        raise ConfigurationError(f"{where}: not YAML: {error}") from None


def parse_document(model: type[M], text: str, where: str) -> M:
    """Return the model of a document. Raises ConfigurationError with one line per fault."""
    raw = load_yaml(text, where)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = [
            format_fault(text, where, fault["loc"], _reason_of(fault)) for fault in error.errors()
        ]
        raise ConfigurationError("\n".join(faults)) from None


def _reason_of(fault: Any) -> str:
    reason = _REASONS.get(fault["type"])
    if reason is None:
        return str(fault["msg"]).removeprefix("Value error, ")
    return reason.format(**fault.get("ctx", {}))


def format_fault(text: str, where: str, place: Sequence[str | int], reason: str) -> str:
    """Return a fault as text, with the line and column of its place."""
    line, column, shown = _locate(text, place)
    return f"{where}:{line}:{column}: {'.'.join(shown) or 'file'}: {reason}"


def _locate(text: str, place: Sequence[str | int]) -> tuple[int, int, list[str]]:
    """Return (line, column, place as shown) of a place, or of the nearest node around it.

    pydantic's places hold tags of unions beside keys; parts that the document lacks are left out.
    """
    node: Any = yaml.compose(text, Loader=_LOADER)
    mark, shown, is_exact = (node.start_mark if node else None), [], False
    for number, part in enumerate(place):
        entry = _child(node, part)
        is_last = number == len(place) - 1
        if entry is None or (isinstance(entry[1], yaml.ScalarNode) and not is_last):
            continue
        mark, node, is_exact = entry[0].start_mark, entry[1], is_last
        shown.append(_shown_name(entry[1], part))
    if place and not is_exact:
        shown.append(str(place[-1]))
    return (mark.line + 1, mark.column + 1, shown) if mark else (1, 1, shown)


def _child(node: Any, part: str | int) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _shown_name(node: Any, part: str | int) -> str:
    if isinstance(part, int) and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "name" and isinstance(value, yaml.ScalarNode):
                return str(value.value)
    return str(part)
