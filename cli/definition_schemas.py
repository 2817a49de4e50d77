"""`docs/schemas/`: what a play, a content, a segment and a destination may be, as JSON Schema for editors and other tools.

`python -m cli.definition_schemas` writes them. What a schema cannot say (names that have to be there, parts that exclude each other) is what
`perigee play validate` says, with the line.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from cli.home import PROJECT
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.segment import Segment

FOLDER = PROJECT / "docs" / "schemas"
MODELS: Mapping[str, type[BaseModel]] = {
    "play": Play,
    "content": ContentItem,
    "segment": Segment,
    "destination": Destination,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def render_schema(kind: str) -> str:
    """Return the schema of a kind of file, as text."""
    found = {"$schema": _DIALECT, **MODELS[kind].model_json_schema()}
    return json.dumps(_as_written(found), indent=1, ensure_ascii=False) + "\n"


def _as_written(node: Any) -> Any:
    """Return a schema without the defaults that are written otherwise than they are kept: durations are text in a file."""
    if isinstance(node, list):
        return [_as_written(part) for part in node]
    if not isinstance(node, dict):
        return node
    told = {name: _as_written(part) for name, part in node.items()}
    if told.get("type") == "string" and isinstance(told.get("default"), int):
        del told["default"]
    return told


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in MODELS:
        (FOLDER / f"{name}.json").write_text(render_schema(name), encoding="utf-8")
