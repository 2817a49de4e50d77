"""Reading what marketers write: YAML or JSON, every fault with its line."""

from collections.abc import Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from libs.common.errors import ConfigurationError

M = TypeVar("M", bound=BaseModel)
Place = Sequence[str | int]


def parse_document(model: type[M], text: str, where: str) -> M:
    """Return the model of a file. Raises ConfigurationError with a line for each fault: `where:line: place: what`."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigurationError(
            f"{where}{line}: not YAML: {getattr(error, 'problem', error)}"
        ) from None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = [
            format_fault(text, where, e["loc"], e["msg"].removeprefix("Value error, "))
            for e in error.errors()
        ]
        raise ConfigurationError("\n".join(faults)) from None


def format_fault(text: str, where: str, place: Place, what: str) -> str:
    """Return a fault as it is told, with the line of its place."""
    line, shown = _line_of(text, place)
    return f"{where}:{line}: {'.'.join(map(str, shown)) or 'file'}: {what}"


def _line_of(text: str, place: Place) -> tuple[int, list[str | int]]:
    """Return the line of a place, or of the nearest there is around it, and the place without the model's own tags."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    line, shown = (node.start_mark.line + 1 if node else 1), []
    for number, part in enumerate(place):
        found: Any = None
        if isinstance(node, yaml.MappingNode):
            found = next(
                ((key, value) for key, value in node.value if key.value == str(part)), None
            )
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value)
        ):
            found = (node.value[part], node.value[part])
        last = number == len(place) - 1
        if found is None or (isinstance(found[1], yaml.ScalarNode) and not last):
            continue  # which of several shapes was tried, or a field that is missing
        line, node = found[0].start_mark.line + 1, found[1]
        shown.append(part)
    if place and (not shown or shown[-1] != place[-1]):
        shown.append(place[-1])
    return line, shown
