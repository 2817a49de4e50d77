"""Differences between two cycle specifications."""

from typing import Any

MAX_VALUE_CHARACTERS = 100


def diff_specs(old: Any, new: Any, path: str = "") -> list[str]:
    """Return the differences of two specifications, each as `path: old -> new`.

    Lists whose items all have a `name` are compared by name, others as a whole.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        differences = []
        for name in sorted(old.keys() | new.keys(), key=str):
            differences += diff_specs(
                old.get(name), new.get(name), f"{path}.{name}" if path else str(name)
            )
        return differences
    if isinstance(old, list) and isinstance(new, list):
        old_by_name, new_by_name = (
            {item["name"]: item for item in items if isinstance(item, dict) and "name" in item}
            for items in (old, new)
        )
        if len(old_by_name) == len(old) and len(new_by_name) == len(new):
            return diff_specs(old_by_name, new_by_name, path)
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    if value is None:
        return "(nothing)"
    text = str(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[: MAX_VALUE_CHARACTERS - 3]}..."
