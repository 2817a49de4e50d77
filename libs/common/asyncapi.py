"""Documentation of topics and messages, built from the models: AsyncAPI 3.1, and a Markdown page.

`python -m libs.common.asyncapi` writes both to `docs/`; a test compares them with the models.
Scoring serves the AsyncAPI document at `/asyncapi.json`.
Sources: AsyncAPI 3.1.0; its Kafka bindings 0.5.0; CloudEvents 1.0, Kafka protocol binding.
"""

import ast
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from libs.common.messages import MODELS
from libs.common.messages.json_schemas import FOLDER
from libs.common.topics import TOPICS, Topic

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = FOLDER.parent / "examples"
_HEADERS = {
    "ce_specversion": "CloudEvents version: 1.0",
    "ce_id": "message id: a repeated message has the same id",
    "ce_type": "name and version of the message, as in this document",
    "ce_source": "service that sent the message",
    "ce_time": "instant of the event, RFC 3339",
    "ce_reason": "reason, if any: lets a consumer skip a message without decoding the value",
    "content-type": "application/json",
    "traceparent": "W3C trace context of the request that caused the message, if it had one",
}
_LISTS = ("cleanup.policy",)
_INTRODUCTION = (
    "Engagement stages, signals and contacts of Perigee. CloudEvents 1.0 over Kafka in binary "
    "mode: attributes in `ce_*` headers, the value is JSON. Instants are microseconds since 1970 "
    "UTC. Delivery is at least once and in order per key; a repeated message has the same id."
)


def build_document() -> dict[str, Any]:
    """Return the AsyncAPI document."""
    payloads, schemas = msgspec.json.schema_components(
        MODELS, ref_template="#/components/schemas/{name}"
    )
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Perigee",
            "version": "1",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {
            f"send-{topic.name}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": f"{topic.writer} writes; read by {topic.readers}",
            }
            for topic in TOPICS
        },
        "components": {
            "messages": {message["name"]: message for message in map(_message, MODELS, payloads)},
            "schemas": schemas,
        },
    }


def _models_of(topic: Topic) -> list[Any]:
    return [model for model in MODELS if topic.name == model.TOPIC]


def _channel(topic: Topic) -> dict[str, Any]:
    settings: dict[str, Any] = {
        name: value.split(",") if name in _LISTS else int(value) if value.isdigit() else value
        for name, value in topic.settings.items()
        if name in ("cleanup.policy", "retention.ms", "delete.retention.ms", "max.message.bytes")
    }
    return {
        "address": topic.name,
        "description": f"Keyed by {topic.key}.",
        "messages": {
            model.KIND: {"$ref": f"#/components/messages/{model.KIND}"}
            for model in _models_of(topic)
        },
        "bindings": {"kafka": {"topicConfiguration": settings, "bindingVersion": "0.5.0"}},
    }


def _message(model: Any, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": model.KIND,
        "title": model.__name__,
        "summary": inspect.getdoc(model),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {
                name: {"type": "string", "description": description}
                for name, description in _HEADERS.items()
            },
            "required": [name for name in _HEADERS if name not in ("ce_reason", "traceparent")],
        },
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
        "examples": [{"payload": _example(model)}],
    }


def _example(model: Any) -> Any:
    return json.loads((EXAMPLES / f"{model.KIND}.json").read_text())


def render_page() -> str:
    """Return the page, in Markdown."""
    lines = [
        "# Messages",
        "",
        "Generated from the models by `python -m libs.common.asyncapi`; do not edit. "
        "How to consume them: [subscribe](subscribe.md).",
        "",
        _INTRODUCTION,
        "",
        "| header | |",
        "|---|---|",
        *(f"| `{name}` | {description} |" for name, description in _HEADERS.items()),
    ]
    for topic in TOPICS:
        retention_ms = topic.settings.get("retention.ms")
        compression = "; large batches are compressed with LZ4" if topic.compressed else ""
        retention = (
            f"kept {int(retention_ms) // 86_400_000} days"
            if retention_ms
            else "compacted: the last message of each key is kept"
        )
        lines += [
            "",
            f"## `{topic.name}`",
            "",
            f"Written by {topic.writer}, read by {topic.readers}; {retention}{compression}.",
        ]
        lines += [f"Keyed by {topic.key}."]
        for model in _models_of(topic):
            lines += _section(model)
    return "\n".join(lines) + "\n"


def _section(model: Any) -> list[str]:
    description = " ".join((inspect.getdoc(model) or "").split())
    lines = [
        "",
        f"### `{model.KIND}`",
        "",
        description,
        "",
        "| field | type | always present | |",
        "|---|---|---|---|",
    ]
    schema = msgspec.json.schema(model)
    lines += _rows(schema["$defs"], schema["$defs"][model.__name__], _notes_of(model), "")
    example = json.dumps(_example(model), indent=1, ensure_ascii=False)
    return [*lines, "", "```json", example, "```"]


def _rows(
    definitions: dict[str, Any], schema: dict[str, Any], notes: dict[str, str], prefix: str
) -> list[str]:
    """Return the table rows of an object's fields; fields of nested objects follow their parent."""
    rows = []
    for name, field in schema["properties"].items():
        always = "yes" if name in schema.get("required", ()) else ""
        note = notes.get(name, "") + (" Personal data." if field.get("x-personal-data") else "")
        rows.append(f"| `{prefix}{name}` | {_kind(field)} | {always} | {note.strip()} |")
        values = field.get("additionalProperties")
        for nested, path in ((field, f"{prefix}{name}."), (values, f"{prefix}{name}.*.")):
            if isinstance(nested, dict) and "$ref" in nested:
                definition = definitions[nested["$ref"].rpartition("/")[2]]
                rows += _rows(definitions, definition, {}, path)
    return rows


def _kind(schema: dict[str, Any]) -> str:
    """Return a short description of a schema's type."""
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}s"
    values = schema.get("additionalProperties")
    if isinstance(values, dict) and values and "$ref" not in values:
        return f"object of {_kind(values)}s"
    return str(schema.get("type", "object" if "$ref" in schema else "anything"))


def _notes_of(model: Any) -> dict[str, str]:
    notes: dict[str, str] = {}
    for base in reversed(model.__mro__):
        notes |= _notes(base)
    return notes


def _notes(model: type) -> dict[str, str]:
    """Return the docstring of each field that the class declares."""
    if not issubclass(model, msgspec.Struct) or model is msgspec.Struct:
        return {}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    notes = {}
    for field, following in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            assert isinstance(field.target, ast.Name)
            notes[field.target.id] = " ".join(str(following.value.value).split())
    return notes


def write_documents() -> None:
    """Write both documents to `docs/`."""
    (DOCS / "asyncapi.json").write_text(json.dumps(build_document(), indent=1) + "\n")
    (DOCS / "messages.md").write_text(render_page())


if __name__ == "__main__":
    write_documents()
