"""JSON Schemas of plays, contents, segments, destinations and their conditions.

`python -m services.orchestrator.definition_schemas` writes them to `docs/schemas/`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from libs.common import document_schemas
from libs.common.conditions.models import CONDITION_ADAPTER
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.segment import Segment

MODELS: Mapping[str, type[BaseModel] | TypeAdapter[Any]] = {
    "play": Play,
    "content": ContentItem,
    "segment": Segment,
    "destination": Destination,
    "condition": CONDITION_ADAPTER,
}


def build_schema(kind: str) -> dict[str, Any]:
    """Return the schema of a kind of document. Raises KeyError for an unknown kind."""
    return document_schemas.build_schema(MODELS[kind])


if __name__ == "__main__":
    for name, model in MODELS.items():
        document_schemas.write_schema(name, model)
