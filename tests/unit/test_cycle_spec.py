"""A broken cycle file is refused with its place and the fault."""

import pytest
import yaml

from cli.home import PROJECT
from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError
from services.scoring.domain.cycle_compiler import compile_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.handlers.cycle_files import read_cycles
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry

SMALL = (PROJECT / "tests" / "support" / "small.yaml").read_text()


def broken(change):
    raw = yaml.safe_load(SMALL)
    change(raw)
    return yaml.safe_dump(raw)


def put(*path, value):
    def change(raw):
        for step in path[:-1]:
            raw = raw[step]
        raw[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (put("map", "open", "warm", value="nowhere"), "map.open.warm"),
        (put("map", "won", value={}), "map.won.cold"),
        (put("scores", "warmth", "half_life", value="soon"), "scores.warmth.half_life"),
        (put("scores", "warmth", "half_life", value="4000d"), "at most 3653d"),
        (
            put("axes", 0, "stages", 1, "enter", value={"score": "love", "at_least": 1}),
            "no score 'love'",
        ),
        (
            put("axes", 0, "stages", 1, "enter", value={"score": "warmth"}),
            "either at_least or below",
        ),
        (put("axes", 0, "stages", 1, "enter", value={"score": "warmth", "at_least": 0}), "nears 0"),
        (put("axes", 0, "stages", 1, "enter", value={"seen": "danced"}), "no signal 'danced'"),
        (put("axes", 0, "stages", 1, "enter", value={"rising": "warmth"}), "exactly one of"),
        (put("axes", 0, "stages", 1, "enter", value={"seen": "bought", "in": "1d"}), "no such key"),
        (
            put("axes", 0, "stages", 1, "enter", value={"axis": "sales", "at_least": "won"}),
            "not declared before",
        ),
        (
            put("axes", 1, "stages", 1, "enter", value={"axis": "buying", "at_least": "hot"}),
            "no stage 'hot'",
        ),
        (
            put("axes", 0, "stages", 1, "enter", value={"count": "bought", "at_least": 0}),
            "1 or more",
        ),
        (put("axes", 0, "stages", 1, "enter", value=None), "needs an `enter`"),
        (put("axes", 0, "stages", 0, "dwell", value="1d"), "the floor"),
        (put("dormant", value={"silent": "any"}), "dormant"),
        (put("repeat", "from_stage", value="moon"), "no stage 'moon'"),
        (put("signals", "seen", "adds", 0, "score", value="love"), "signals.seen.adds"),
        (put("signals", "seen", "color", value="red"), "signals.seen.color"),
        (put("axes", value=[]), "axes"),
    ],
)
def test_a_fault_names_its_place(change, named):
    with pytest.raises(ConfigurationError, match="(?s).*") as error:
        compile_cycle(parse_cycle_spec(broken(change), "small.yaml"))
    assert named in str(error.value)


def test_what_is_not_yaml_says_where():
    with pytest.raises(
        ConfigurationError, match=r"broken.yaml:1:9: not YAML|broken.yaml:2:1: not YAML"
    ):
        parse_cycle_spec("cycle: [", "broken.yaml")


@pytest.mark.parametrize(
    ("text", "found"), [("90s", 90_000_000), ("15m", 900_000_000), ("1d", 86_400_000_000)]
)
def test_durations(text, found):
    assert parse_duration(text) == found


@pytest.mark.parametrize("text", ["", "1", "1w", "-1d", "0s", 5, None, "1.5h"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


def test_a_folder_without_cycles_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="no cycle"):
        read_cycles(tmp_path)


def test_two_cycles_of_one_name_are_an_error(tmp_path):
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text(SMALL)
    with pytest.raises(ConfigurationError, match="same name"):
        read_cycles(tmp_path)


def test_a_reaction_window_from_outside_is_a_duration():
    with pytest.raises(ConfigurationError, match="PERIGEE_REACTION_WINDOW"):
        DatabaseCycleRegistry("often")


def test_a_cycle_and_its_version_have_plain_names():
    with pytest.raises(ConfigurationError, match="version"):
        parse_cycle_spec(broken(put("version", value="1@2")), "x.yaml")
