"""JSON Schemas of plays, contents, segments and destinations, for editors and other tools.

`python -m services.orchestrator.definition_schemas` writes them to `docs/schemas/`. A schema cannot
express every rule (names that have to exist, parts that exclude each other): `perigee play
validate` reports those, with the line.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.segment import Segment

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"
MODELS: Mapping[str, type[BaseModel]] = {
    "play": Play,
    "content": ContentItem,
    "segment": Segment,
    "destination": Destination,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def build_schema(kind: str) -> dict[str, Any]:
    """Return the schema of a kind of file."""
    schema: dict[str, Any] = _without_internal_defaults(
        {"$schema": _DIALECT, **MODELS[kind].model_json_schema()}
    )
    return schema


def render_schema(kind: str) -> str:
    """Return the schema of a kind of file, as text."""
    return json.dumps(build_schema(kind), indent=1, ensure_ascii=False) + "\n"


def _without_internal_defaults(node: Any) -> Any:
    """Return a schema without numeric defaults of texts: durations are text in a file."""
    if isinstance(node, list):
        return [_without_internal_defaults(part) for part in node]
    if not isinstance(node, dict):
        return node
    schema = {name: _without_internal_defaults(part) for name, part in node.items()}
    if schema.get("type") == "string" and isinstance(schema.get("default"), int):
        del schema["default"]
    return schema


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in MODELS:
        (FOLDER / f"{name}.json").write_text(render_schema(name), encoding="utf-8")
