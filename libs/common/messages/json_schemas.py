"""JSON Schemas (2020-12) of the messages, made from the models; the committed copies are what a release promised.

`python -m libs.common.messages.json_schemas` writes them anew; a test compares, and refuses a change within a version that
would break a reader: a field taken away, a type changed, a new field that is required.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from libs.common.messages import MODELS

FOLDER = Path(__file__).parent / "schemas"


def build_schemas() -> dict[str, dict[str, Any]]:
    """Return {event type: JSON Schema}."""
    return {model.KIND: msgspec.json.schema(model) for model in MODELS}


def find_incompatibilities(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what a reader of `old` would stumble over in messages of `new`, and the other way round."""
    found = []
    before, after = old.get("$defs", {}), new.get("$defs", {})
    for name in sorted(before.keys() & after.keys()):
        fields_before, fields_after = (
            before[name].get("properties", {}),
            after[name].get("properties", {}),
        )
        found += [f"{name}.{field} is gone" for field in fields_before.keys() - fields_after.keys()]
        found += [
            f"{name}.{field} has another type"
            for field in fields_before.keys() & fields_after.keys()
            if fields_before[field] != fields_after[field]
        ]
        required_before, required_after = (
            set(before[name].get("required", ())),
            set(after[name].get("required", ())),
        )
        found += [f"{name}.{field} is required now" for field in required_after - required_before]
        found += [
            f"{name}.{field} is no longer sure to be there"
            for field in required_before - required_after
        ]
    return [*found, *(f"{name} is gone" for name in sorted(before.keys() - after.keys()))]


def write_schemas() -> None:
    """Write every schema to its file."""
    for kind, schema in build_schemas().items():
        (FOLDER / f"{kind}.json").write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write_schemas()
