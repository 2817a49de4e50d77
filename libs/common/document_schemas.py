"""JSON Schemas (2020-12) of documents that people write, for editors, forms and other tools.

A schema cannot express every rule (names that have to exist, keys that exclude each other); the
`validate` commands report those with line and column.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def build_schema(source: type[BaseModel] | TypeAdapter[Any]) -> dict[str, Any]:
    """Return the schema of a model or of a type."""
    schema = source.json_schema() if isinstance(source, TypeAdapter) else source.model_json_schema()
    built: dict[str, Any] = _without_internal_defaults({"$schema": _DIALECT, **schema})
    return built


def render_schema(source: type[BaseModel] | TypeAdapter[Any]) -> str:
    """Return the schema as text."""
    return json.dumps(build_schema(source), indent=1, ensure_ascii=False) + "\n"


def write_schema(name: str, source: type[BaseModel] | TypeAdapter[Any]) -> None:
    """Write the schema to `docs/schemas/NAME.json`."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(render_schema(source), encoding="utf-8")


def _without_internal_defaults(node: Any) -> Any:
    """Return a schema without numeric defaults of texts: durations are text in a document."""
    if isinstance(node, list):
        return [_without_internal_defaults(part) for part in node]
    if not isinstance(node, dict):
        return node
    schema = {name: _without_internal_defaults(part) for name, part in node.items()}
    if schema.get("type") == "string" and isinstance(schema.get("default"), int):
        del schema["default"]
    return schema
