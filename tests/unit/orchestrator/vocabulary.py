"""What the plays of these tests may name, and contacts to try them on."""

import yaml

from cli.home import PROJECT
from libs.common.conditions import parse_condition
from libs.common.messages import AxisChange, Cause, Signal, StageChange, StageMove
from services.orchestrator.domain.contact_facts import ContactFacts, CycleFacts, DecayingScore
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies, vocabulary_from_spec
from services.orchestrator.domain.play_program import compile_play
from services.orchestrator.domain.play_validation import KnownNames, validate_play

CYCLE = yaml.safe_load((PROJECT / "cycles" / "engagement.yaml").read_text())
WORDS = CycleVocabularies({"engagement": vocabulary_from_spec(CYCLE)})
NAMES = KnownNames(
    WORDS,
    {"buyers": parse_condition({"stage": ["customer", "member"]})},
    {"crm": "webhook"},
    {"guide"},
)
LADDERS = WORDS.cycles["engagement"].ladders
DAY, HOUR = 86_400_000_000, 3_600_000_000
HALF_LIFE = 7 * DAY


def standing(stage="lead", buying="investigation", sales="identified", **more):
    return CycleFacts(stage, axes={"buying": buying, "sales": sales}, ladders=LADDERS, **more)


def contact(contact_id="c", *, scores=None, at=0, **fields):
    held = {name: DecayingScore(value, at, HALF_LIFE) for name, value in (scores or {}).items()}
    given = {"standings": {"engagement": standing(scores=held)}, **fields}
    return ContactFacts(contact_id, **given)


def play(steps, **more):
    """A play's text."""
    whole = {"play": "test", "trigger": {"signal": "quote_requested"}, **more, "steps": steps}
    return yaml.safe_dump(whole, sort_keys=False)


def program(steps, **more):
    return compile_play(validate_play(play(steps, **more), "test.yaml", NAMES), 1, NAMES.segments)


def mail(name="mail", **more):
    return {"action": name, "channel": "email", "mail": {"subject": "s", "text": "t"}, **more}


def signal(**fields):
    base = {
        "id": "s", "workspace": "default", "contact_id": "c", "cycle": "engagement", "signal": "quote_requested",
        "occurred_at": 0, "received_at": 0, "source": "web", "message_id": "m",
    }  # fmt: skip
    return Signal(**{**base, **fields})


def change(**fields):
    base = {
        "id": "s", "workspace": "default", "contact_id": "c", "cycle": "engagement", "cycle_version": "1", "sequence": 1,
        "occurred_at": 0, "direction": "regression", "stage": StageMove("lead", "visitor"),
        "axes": {"buying": AxisChange("investigation", "awareness", "regression"),
                 "sales": AxisChange("unknown", "unknown", "lateral")},
        "dormant": False, "instance": "i", "reason": "time", "cause": Cause("time", 0), "values": {},
    }  # fmt: skip
    return StageChange(**{**base, **fields})
