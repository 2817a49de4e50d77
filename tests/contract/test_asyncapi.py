"""Generated documents of topics and messages: valid AsyncAPI, and committed as generated."""

import json

import jsonschema_rs
import pytest

from cli.home import PROJECT
from libs.common import asyncapi
from libs.common.messages import MODELS
from libs.common.topics import TOPICS

SPECS = PROJECT / "tests" / "sdks" / "node" / "node_modules" / "@asyncapi" / "specs" / "schemas"


def test_document_is_valid_asyncapi():
    schema = json.loads((SPECS / "3.1.0.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    faults = [str(fault) for fault in validator.iter_errors(asyncapi.build_document())]
    broken = asyncapi.build_document()

    broken["channels"]["signals"]["messages"] = ["signal"]

    assert faults[:3] == []
    assert not validator.is_valid(broken)


def test_document_lists_topics_messages_and_resolvable_references():
    document = asyncapi.build_document()

    assert document["channels"].keys() == {topic.name for topic in TOPICS}
    assert document["components"]["messages"].keys() == {model.KIND for model in MODELS}

    resolve_references(document, document)


def resolve_references(document, node):
    """Look up each `$ref` below a node; raise KeyError for a dangling one."""
    if isinstance(node, dict):
        if "$ref" in node:
            target = document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
        for value in node.values():
            resolve_references(document, value)
    elif isinstance(node, list):
        for value in node:
            resolve_references(document, value)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.KIND)
def test_message_example_matches_schema(model):
    document = asyncapi.build_document()
    message = document["components"]["messages"][model.KIND]
    schema = {**message["payload"], "components": document["components"]}
    jsonschema_rs.validate(schema, message["examples"][0]["payload"])


def test_committed_documents_are_up_to_date():
    hint = "run: python -m libs.common.asyncapi"

    assert json.loads((asyncapi.DOCS / "asyncapi.json").read_text()) == asyncapi.build_document(), (
        hint
    )
    assert (asyncapi.DOCS / "messages.md").read_text() == asyncapi.render_page(), hint
