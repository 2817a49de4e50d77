"""Builders of contact facts, plays and events, with the names that plays may refer to."""

from datetime import UTC, datetime

import yaml

from cli.home import PROJECT
from libs.common.conditions import parse_condition
from libs.common.instants import DAY
from libs.common.messages import AxisChange, Cause, Signal, StageChange, StageMove
from services.orchestrator.domain.contact_facts import ContactFacts, CycleFacts, DecayingScore
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies, vocabulary_from_spec
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.play_program import compile_play
from services.orchestrator.domain.play_validation import KnownNames, validate_play

CYCLE = yaml.safe_load((PROJECT / "cycles" / "engagement.yaml").read_text())
VOCABULARIES = CycleVocabularies({"engagement": vocabulary_from_spec(CYCLE)})
NAMES = KnownNames(
    VOCABULARIES,
    {"buyers": parse_condition({"stage": ["customer", "member"]})},
    {"crm": "webhook"},
    {"guide"},
)
LADDERS = VOCABULARIES.cycles["engagement"].ladders
HALF_LIFE = 7 * DAY
START = int(datetime(2026, 3, 27, 12, tzinfo=UTC).timestamp()) * 1_000_000


def cycle_facts(stage="lead", buying="investigation", sales="identified", **more):
    return CycleFacts(stage, axes={"buying": buying, "sales": sales}, ladders=LADDERS, **more)


def contact_facts(contact_id="c", *, scores=None, at=0, **fields):
    decaying = {name: DecayingScore(value, at, HALF_LIFE) for name, value in (scores or {}).items()}
    standings = {"engagement": cycle_facts(scores=decaying)}
    return ContactFacts(contact_id, **{"standings": standings, **fields})


def play_text(steps, **more):
    """Return the text of a play."""
    document = {"play": "test", "trigger": {"signal": "quote_requested"}, **more, "steps": steps}
    return yaml.safe_dump(document, sort_keys=False)


def compiled_play(steps, **more):
    return compile_play(
        validate_play(play_text(steps, **more), "test.yaml", NAMES), 1, NAMES.segments
    )


def email_action(name="mail", **more):
    return {"action": name, "channel": "email", "mail": {"subject": "s", "text": "t"}, **more}


def enrollment(**fields):
    """Return an active enrollment that is due at START."""
    defaults = {"cause": "cause", "entered_at": START, "since": START, "due_at": START}
    return Enrollment("e", "default", "c", "test", 1, **{**defaults, **fields})


def action_names(progress):
    """Return the names of the actions that a step through a play emitted."""
    return [action.action for action, _ in progress.due_actions]


def signal(**fields):
    defaults = {
        "id": "s",
        "workspace": "default",
        "contact_id": "c",
        "cycle": "engagement",
        "signal": "quote_requested",
        "occurred_at": 0,
        "received_at": 0,
        "source": "web",
        "message_id": "m",
    }
    return Signal(**{**defaults, **fields})


def stage_change(**fields):
    defaults = {
        "id": "s",
        "workspace": "default",
        "contact_id": "c",
        "cycle": "engagement",
        "cycle_version": "1",
        "sequence": 1,
        "occurred_at": 0,
        "direction": "regression",
        "stage": StageMove("lead", "visitor"),
        "axes": {
            "buying": AxisChange("investigation", "awareness", "regression"),
            "sales": AxisChange("unknown", "unknown", "lateral"),
        },
        "dormant": False,
        "instance": "i",
        "reason": "time",
        "cause": Cause("time", 0),
        "values": {},
    }
    return StageChange(**{**defaults, **fields})
