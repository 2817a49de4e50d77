"""Cycle lint and the difference of two cycle versions."""

import yaml

from cli.home import PROJECT
from services.scoring.domain.cycle_diff import diff_specs
from services.scoring.domain.cycle_lint import lint_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec

SHIPPED = (PROJECT / "cycles" / "engagement.yaml").read_text()
SMALL = yaml.safe_load((PROJECT / "tests" / "support" / "small.yaml").read_text())


def lint_advice(raw):
    return lint_cycle(parse_cycle_spec(yaml.safe_dump(raw), "x"))


def test_shipped_cycle_has_no_lint_advice():
    assert lint_cycle(parse_cycle_spec(SHIPPED, "engagement.yaml")) == []


def test_stay_stricter_than_enter_is_reported():
    raw = yaml.safe_load(yaml.safe_dump(SMALL))
    stage = raw["axes"][0]["stages"][1]
    score = next(iter(raw["scores"]))
    stage["enter"], stage["stay"] = {"score": score, "at_least": 2}, {"score": score, "at_least": 3}

    assert any("asks for more" in advice for advice in lint_advice(raw))


def test_unused_parts_are_reported():
    raw = yaml.safe_load(yaml.safe_dump(SMALL))
    raw["signals"]["idle"] = {"match": [{"name": "Idle"}]}
    raw["scores"]["idle"] = {"half_life": "1d"}
    raw["stages"].append({"name": "nowhere", "ring": 0})

    advice = " ".join(lint_advice(raw))

    for path in ("signals.idle", "scores.idle", "stages.nowhere: the map"):
        assert path in advice


def test_differences_name_their_path():
    raw = yaml.safe_load(yaml.safe_dump(SMALL))
    raw["version"] = "2"
    raw["axes"][0]["stages"][1]["dwell"] = "1d"
    axis, stage = raw["axes"][0]["name"], raw["axes"][0]["stages"][1]["name"]

    assert diff_specs(SMALL, raw) == [
        f"axes.{axis}.stages.{stage}.dwell: (nothing) -> 1d",
        "version: 1 -> 2",
    ]
    assert diff_specs(SMALL, SMALL) == []
