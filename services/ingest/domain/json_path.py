"""Paths in a JSON document: `order.lines[0].sku`, `lines[-1]`, `payload["event-data"].id`.

A path consists of names with dots between them, indices in brackets (negative ones count from the
end), and quoted names in brackets if they have other characters. It has no wildcards, conditions or
functions, so resolving it takes as many steps as it has.
"""

import re
from typing import Any

from libs.common.errors import ConfigurationError, InvalidMessage

JsonPath = tuple[str | int, ...]
_STEP = re.compile(r'\.?([A-Za-z_$][\w$-]*)|\[(-?[0-9]{1,6})\]|\["((?:[^"\\]|\\["\\])*)"\]')
MAX_STEPS = 20


def parse_path(text: Any, where: str = "path") -> JsonPath:
    """Parse a path; the empty one is the whole document.

    Raises ConfigurationError that names the first wrong character.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{where}: a path is text, like order.lines[0].sku")
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None or (text[at] == "." and at == 0) or len(steps) == MAX_STEPS:
            raise ConfigurationError(f"{where}: {text!r} is no path from its character {at + 1} on")
        name, index, quoted = step.groups()
        steps.append(
            name
            if name is not None
            else int(index)
            if index is not None
            else re.sub(r"\\(.)", r"\1", quoted)
        )
        at = step.end()
    return tuple(steps)


def set_at(path: JsonPath, document: Any, value: Any) -> Any:
    """Return the document with a value set, and with new objects above it as needed.

    Raises InvalidMessage for an index without a list item.
    """
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        if not isinstance(document, list) or not -len(document) <= step < len(document):
            raise InvalidMessage(
                "no_place", f"there is no list with an item [{step}] where a value is to be put"
            )
        changed = list(document)
        changed[step] = set_at(rest, changed[step], value)
        return changed
    members = document if isinstance(document, dict) else {}
    return {**members, step: set_at(rest, members.get(step), value)}


def get_at(path: JsonPath, document: Any) -> Any:
    """Return the value at a path, or None."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(document, list) or not -len(document) <= step < len(document):
                return None
            document = document[step]
        elif isinstance(document, dict):
            document = document.get(step)
        else:
            return None
    return document
