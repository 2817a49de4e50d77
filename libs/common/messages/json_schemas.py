"""JSON Schemas (2020-12) of the messages, built from the models; releases commit to the files.

`python -m libs.common.messages.json_schemas` writes them. A test compares them with the models, and
refuses an incompatible change within a version: a removed field, another type, a new required
field.
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
    """Return the incompatibilities between readers of one schema and messages of the other."""
    faults = []
    old_definitions, new_definitions = old.get("$defs", {}), new.get("$defs", {})
    for name in sorted(old_definitions.keys() & new_definitions.keys()):
        old_fields, new_fields = (
            old_definitions[name].get("properties", {}),
            new_definitions[name].get("properties", {}),
        )
        faults += [f"{name}.{field} is gone" for field in old_fields.keys() - new_fields.keys()]
        faults += [
            f"{name}.{field} has another type"
            for field in old_fields.keys() & new_fields.keys()
            if old_fields[field] != new_fields[field]
        ]
        old_required, new_required = (
            set(old_definitions[name].get("required", ())),
            set(new_definitions[name].get("required", ())),
        )
        faults += [f"{name}.{field} is required now" for field in new_required - old_required]
        faults += [
            f"{name}.{field} is no longer sure to be there" for field in old_required - new_required
        ]
    removed = sorted(old_definitions.keys() - new_definitions.keys())
    return [*faults, *(f"{name} is gone" for name in removed)]


def write_schemas() -> None:
    """Write every schema to its file."""
    for kind, schema in build_schemas().items():
        (FOLDER / f"{kind}.json").write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write_schemas()
