"""Published schemas equal those of the models; shipped definition files match them."""

import json

import jsonschema_rs
import pytest
import yaml

from cli.home import PROJECT
from libs.common.document_schemas import FOLDER, render_schema
from services.orchestrator.definition_schemas import MODELS
from services.scoring.domain.cycle_spec import CycleSpec

SCHEMAS = {**MODELS, "cycle": CycleSpec}

FOLDERS = {"play": "plays", "content": "content", "segment": "segments", "cycle": "cycles"}
FILES = [
    (kind, path)
    for kind, folder in FOLDERS.items()
    for path in sorted((PROJECT / folder).glob("*.yaml"))
]


def validator(kind):
    return jsonschema_rs.Draft202012Validator(json.loads((FOLDER / f"{kind}.json").read_text()))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_published_schema_is_up_to_date(kind):
    assert (FOLDER / f"{kind}.json").read_text() == render_schema(SCHEMAS[kind]), (
        "run: python -m services.orchestrator.definition_schemas; "
        "python -m services.scoring.cycle_schema"
    )


@pytest.mark.parametrize(("kind", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_shipped_definition_matches_schema(kind, path):
    faults = [
        error.message for error in validator(kind).iter_errors(yaml.safe_load(path.read_text()))
    ]

    assert faults == []


def test_documented_play_matches_schema():
    text = (PROJECT / "docs" / "plays.md").read_text().split("```yaml\n")[1].split("```")[0]

    assert validator("play").is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": [{"dance": "3d"}]},
        {"steps": []},
        {"steps": [{"wait": 3}]},
        {"steps": [{"wait": "soon"}]},
        {"steps": [{"action": "a", "channel": "pigeon"}]},
        {"trigger": "order"},
        {"holdout": 1.5},
        {"colour": "red"},
        {"play": "No Name"},
    ],
)
def test_invalid_play_fails_schema(change):
    play = {"play": "p", "trigger": {"signal": "order_completed"}, "steps": [{"wait": "3d"}]}

    assert validator("play").is_valid(play)
    assert not validator("play").is_valid({**play, **change})
