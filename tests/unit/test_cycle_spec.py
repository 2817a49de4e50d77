"""Faulty cycle files are refused, with the path of the fault."""

import pytest
import yaml

from cli.home import PROJECT
from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError
from services.scoring.domain.cycle_compiler import compile_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.handlers.cycle_file_reader import read_cycles
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry

SMALL = (PROJECT / "tests" / "support" / "small.yaml").read_text()


def changed_text(change):
    raw = yaml.safe_load(SMALL)
    change(raw)
    return yaml.safe_dump(raw)


def set_value(*path, value):
    def change(raw):
        for step in path[:-1]:
            raw = raw[step]
        raw[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (set_value("map", "open", "warm", value="nowhere"), "map.open.warm"),
        (set_value("map", "won", value={}), "map.won.cold"),
        (set_value("scores", "warmth", "half_life", value="soon"), "scores.warmth.half_life"),
        (set_value("scores", "warmth", "half_life", value="4000d"), "at most 3653d"),
        (
            set_value("axes", 0, "stages", 1, "enter", value={"score": "love", "at_least": 1}),
            "no score 'love'",
        ),
        (
            set_value("axes", 0, "stages", 1, "enter", value={"score": "warmth"}),
            "either at_least or below",
        ),
        (
            set_value("axes", 0, "stages", 1, "enter", value={"score": "warmth", "at_least": 0}),
            "nears 0",
        ),
        (
            set_value("axes", 0, "stages", 1, "enter", value={"seen": "danced"}),
            "no signal 'danced'",
        ),
        (set_value("axes", 0, "stages", 1, "enter", value={"rising": "warmth"}), "exactly one of"),
        (
            set_value("axes", 0, "stages", 1, "enter", value={"seen": "bought", "in": "1d"}),
            "no such key",
        ),
        (
            set_value("axes", 0, "stages", 1, "enter", value={"axis": "sales", "at_least": "won"}),
            "not declared before",
        ),
        (
            set_value("axes", 1, "stages", 1, "enter", value={"axis": "buying", "at_least": "hot"}),
            "no stage 'hot'",
        ),
        (
            set_value("axes", 0, "stages", 1, "enter", value={"count": "bought", "at_least": 0}),
            "1 or more",
        ),
        (set_value("axes", 0, "stages", 1, "enter", value=None), "needs an `enter`"),
        (set_value("axes", 0, "stages", 0, "dwell", value="1d"), "the floor"),
        (set_value("dormant", value={"silent": "any"}), "dormant"),
        (set_value("repeat", "from_stage", value="moon"), "no stage 'moon'"),
        (set_value("signals", "seen", "adds", 0, "score", value="love"), "signals.seen.adds"),
        (set_value("signals", "seen", "color", value="red"), "signals.seen.color"),
        (set_value("axes", value=[]), "axes"),
    ],
)
def test_fault_names_its_path(change, fault):
    with pytest.raises(ConfigurationError, match="(?s).*") as error:
        compile_cycle(parse_cycle_spec(changed_text(change), "small.yaml"))

    assert fault in str(error.value)


def test_yaml_error_names_line_and_column():
    with pytest.raises(
        ConfigurationError, match=r"broken.yaml:1:9: not YAML|broken.yaml:2:1: not YAML"
    ):
        parse_cycle_spec("cycle: [", "broken.yaml")


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90_000_000), ("15m", 900_000_000), ("1d", 86_400_000_000)]
)
def test_duration_is_parsed_to_microseconds(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "1", "1w", "-1d", "0s", 5, None, "1.5h"])
def test_invalid_duration_is_refused(text):
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


def test_folder_without_cycles_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="no cycle"):
        read_cycles(tmp_path)


def test_duplicate_cycle_name_is_an_error(tmp_path):
    for name in ("first.yaml", "second.yaml"):
        (tmp_path / name).write_text(SMALL)

    with pytest.raises(ConfigurationError, match="same name"):
        read_cycles(tmp_path)


def test_invalid_reaction_window_is_refused():
    with pytest.raises(ConfigurationError, match="PERIGEE_REACTION_WINDOW"):
        DatabaseCycleRegistry("often")


def test_version_with_at_sign_is_refused():
    with pytest.raises(ConfigurationError, match="version"):
        parse_cycle_spec(changed_text(set_value("version", value="1@2")), "x.yaml")
