"""The documents made from the models: the published schema of AsyncAPI takes the one, and both are those that are committed."""

import json

import jsonschema_rs
import pytest

from cli.home import PROJECT
from libs.common import asyncapi
from libs.common.messages import MODELS
from libs.common.topics import TOPICS

SPECS = PROJECT / "tests" / "sdks" / "node" / "node_modules" / "@asyncapi" / "specs" / "schemas"


def test_the_published_schema_takes_the_document():
    schema = json.loads((SPECS / "3.1.0.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    assert [str(fault) for fault in validator.iter_errors(asyncapi.build_document())][:3] == []
    broken = asyncapi.build_document()
    broken["channels"]["signals"]["messages"] = ["signal"]
    assert not validator.is_valid(broken)


def test_every_topic_and_message_is_in_it_and_every_reference_leads_somewhere():
    found = asyncapi.build_document()
    assert found["channels"].keys() == {topic.name for topic in TOPICS}
    assert found["components"]["messages"].keys() == {model.KIND for model in MODELS}

    def follow(node):
        if isinstance(node, dict):
            if "$ref" in node:
                at = found
                for part in node["$ref"].removeprefix("#/").split("/"):
                    at = at[part]
            for value in node.values():
                follow(value)
        elif isinstance(node, list):
            for value in node:
                follow(value)

    follow(found)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.KIND)
def test_an_example_fits_its_schema(model):
    found = asyncapi.build_document()
    message = found["components"]["messages"][model.KIND]
    schema = {**message["payload"], "components": found["components"]}
    jsonschema_rs.validate(schema, message["examples"][0]["payload"])


def test_the_committed_documents_are_those_of_the_models():
    again = "run: python -m libs.common.asyncapi"
    assert json.loads((asyncapi.DOCS / "asyncapi.json").read_text()) == asyncapi.build_document(), (
        again
    )
    assert (asyncapi.DOCS / "messages.md").read_text() == asyncapi.render_page(), again
