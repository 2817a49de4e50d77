"""Validation of play files: each fault with its line and column; shipped plays are valid."""

import re

import msgspec
import pytest
import yaml

from cli.home import PROJECT
from libs.common.conditions import parse_condition
from libs.common.errors import ConfigurationError
from libs.common.instants import DAY
from services.orchestrator.definition_file_reader import (
    parse_max_age,
    read_contents,
    read_plays,
    read_segments,
)
from services.orchestrator.domain.play_program import (
    EventWaitInstruction,
    JumpInstruction,
    compile_play,
)
from services.orchestrator.domain.play_validation import KnownNames, validate_play
from services.orchestrator.domain.segment import entry_signal, exit_signal
from tests.unit.orchestrator.builders import NAMES, VOCABULARIES, compiled_play, email_action

TEXT = """play: quote
trigger: {signal: quote_requested}
entry:
  stage: lead
exits:
  - signal: order_completed
steps:
  - wait: 2d
  - wait_until: {time: "09:30"}
  - branch:
      - when: {trait: country, equals: FR}
        steps:
          - action: mail
            channel: email
            mail: {subject: "Hi {{ contact.name }}", text: Hello}
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("channel: email", "channel: pigeon", "quote.yaml:14: steps.2.branch.0.steps.0.channel"),
        (
            "wait: 2d",
            "wiggle: 2d",
            "quote.yaml:8: steps.0: no such step; there are wait, wait_until",
        ),
        ("wait: 2d", "wait: soon", "quote.yaml:8: steps.0.wait"),
        (
            "signal: quote_requested",
            "signal: visited",
            "quote.yaml:2: trigger.signal: no cycle publishes",
        ),
        (
            "{signal: quote_requested}",
            "{}",
            "quote.yaml:2: trigger: exactly one of signal, stage_change",
        ),
        ("stage: lead", "stage: king", "quote.yaml:4: entry.stage: cycle engagement has no stage"),
        (
            "signal: order_completed",
            "signal: ordered",
            "quote.yaml:6: exits.0.signal: no cycle publishes",
        ),
        (
            "trait: country, equals: FR",
            "segment: kings",
            "quote.yaml:11: steps.2.branch.0.when.segment: no segment",
        ),
        (
            "{{ contact.name }}",
            "{{ contact.name ",
            "quote.yaml:15: steps.2.branch.0.steps.0.mail.subject: not a Liquid",
        ),
        ('time: "09:30"', "time: 18:30", "wait_until.time: a time is written in quotes"),
        ("equals: FR", 'at_least: "5"', "when.at_least: a number is needed"),
        ("equals: FR", "one_of: FR", "when.one_of: a list is needed"),
        ('time: "09:30"', 'time: "26:30"', "quote.yaml:9: steps.1.wait_until.time"),
        ("play: quote", "jig: quote", "quote.yaml:1: jig: no such key"),
        ("play: quote", "play: Quote of the day", "quote.yaml:1: play"),
        ("play: quote", "play quote", "quote.yaml:2: not YAML"),
        ("exits:", "exits: [", "not YAML"),
        ("mail: {", "text: hm\n            mail: {", "an e-mail action has `mail`"),
        ("channel: email", "channel: slack", "a slack action has a `destination`"),
    ],
)
def test_fault_names_its_line(old, new, fault):
    assert validate_play(TEXT, "quote.yaml", NAMES).play == "quote"

    with pytest.raises(ConfigurationError) as error:
        validate_play(TEXT.replace(old, new, 1), "quote.yaml", NAMES)

    without_column = re.sub(r"(yaml:\d+):\d+", r"\1", str(error.value))
    assert fault in without_column


def test_fault_names_its_column():
    text = TEXT.replace("order_completed", "ordered")

    with pytest.raises(ConfigurationError, match=r"^quote.yaml:6:5: exits.0.signal: no cycle"):
        validate_play(text, "quote.yaml", NAMES)


def test_all_faults_are_reported_at_once():
    with pytest.raises(ConfigurationError) as error:
        validate_play(
            TEXT.replace("lead", "king").replace("order_completed", "ordered"), "q", NAMES
        )

    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (
            {"action": "a", "channel": "slack", "destination": "nowhere", "text": "hi"},
            "no destination 'nowhere'",
        ),
        (
            {"action": "a", "channel": "slack", "destination": "crm", "text": "hi"},
            "'crm' belongs to channel webhook, not to slack",
        ),
        (email_action(content={"types": ["guide"], "fallback": "nothing"}), "no content 'nothing'"),
        ({"split": {"a": {"share": 0.7}, "b": {"share": 0.7}}}, "more than 1"),
    ],
)
def test_action_with_unknown_reference_is_refused(step, fault):
    with pytest.raises(ConfigurationError, match=fault):
        compiled_play([step])


def test_duplicate_action_name_is_refused():
    with pytest.raises(ConfigurationError, match="two actions are called 'mail'"):
        compiled_play(
            [email_action(), {"branch": [{"when": {"stage": "lead"}, "steps": [email_action()]}]}]
        )


def test_compiled_play_only_jumps_forward():
    compiled = compiled_play(
        [
            {
                "branch": [{"when": {"stage": "lead"}, "steps": [email_action("a")]}],
                "otherwise": [email_action("b")],
            },
            {"split": {"x": {"share": 0.5, "steps": [email_action("c")]}}},
            {
                "wait_until": {"signal": "complaint", "timeout": "1d"},
                "timed_out": [email_action("d"), {"exit": "late"}],
            },
        ]
    )

    for index, step in enumerate(compiled.code):
        targets = [
            getattr(step, name)
            for name in ("to", "otherwise", "met", "late")
            if hasattr(step, name)
        ]
        assert all(target > index for target in targets), (index, step)
    assert not [
        step for step in compiled.code if isinstance(step, JumpInstruction) and step.to == 0
    ]
    assert [type(step) for step in compiled.code].count(EventWaitInstruction) == 1

    recompiled = compile_play(compiled.play, 1, NAMES.segments)

    assert [type(step) for step in recompiled.code] == [type(step) for step in compiled.code]
    assert recompiled.actions == compiled.actions


def test_shipped_plays_are_valid():
    """Destinations are set by the operator; all other names of the plays are shipped."""
    segments = {
        name: parse_condition(yaml.safe_load(text)["when"])
        for name, text in read_segments(PROJECT / "segments").items()
    }
    destinations = {**dict.fromkeys(("sales", "service", "shop"), "webhook"), "ads": "audience"}
    segment_signals = frozenset(
        signal(name) for name in segments for signal in (entry_signal, exit_signal)
    )
    names = KnownNames(
        msgspec.structs.replace(VOCABULARIES, segment_signals=segment_signals),
        segments,
        destinations,
        set(read_contents(PROJECT / "content")),
    )

    for name, text in read_plays(PROJECT / "plays").items():
        assert validate_play(text, f"plays/{name}.yaml", names).play == name
    assert len(read_plays(PROJECT / "plays")) >= 10


def test_duplicate_play_in_folder_is_refused(tmp_path):
    assert read_plays(tmp_path) == {}

    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(TEXT)

    with pytest.raises(ConfigurationError, match="another file"):
        read_plays(tmp_path)


def test_max_age_is_a_duration_or_empty():
    assert parse_max_age("31d") == 31 * DAY
    assert parse_max_age("") is None

    with pytest.raises(ConfigurationError, match="PERIGEE_MAX_AGE"):
        parse_max_age("old")


def test_documented_play_is_valid():
    text = (PROJECT / "docs" / "plays.md").read_text().split("```yaml\n")[1].split("```")[0]
    names = KnownNames(
        VOCABULARIES, {"buyers": parse_condition({"stage": "customer"})}, {"sales": "slack"}
    )

    assert validate_play(text, "docs/plays.md", names).play == "quote_without_answer"


@pytest.mark.parametrize(
    "trigger", [{"silence": {"for": "9d"}}, {"date": {"trait": "renewal"}}, {"signal": "complaint"}]
)
def test_per_hour_needs_a_trigger_for_all_contacts(trigger):
    with pytest.raises(
        ConfigurationError, match="per_hour needs a trigger that reaches all contacts"
    ):
        validate_play(
            yaml.safe_dump(
                {"play": "p", "trigger": trigger, "per_hour": 9, "steps": [email_action()]}
            ),
            "p",
            NAMES,
        )
