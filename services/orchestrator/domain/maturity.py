"""How far a workspace has come: four levels, from one mail to everybody to content chosen by what each does. Pure.

A level is mastered when all its checks pass and those of the levels before. Nothing is locked: what belongs to a higher level
than the one that is mastered is warned of. Good practices of the first level: consent, a working unsubscribe, a personal subject.
"""

from collections.abc import Iterator, Sequence

import msgspec

from libs.common.conditions import condition_kinds
from services.orchestrator.domain.conversion_rate import ConversionRate, wilson_rate
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.play_program import iter_actions, iter_conditions

MATURITY_LEVELS = ("broadcast", "segment", "automated", "predictive")
BASELINE = 0.02
"""What a megaphone reaches, as the field says; a setting says what it reaches here."""
_DERIVED = ("score", "axis", "stage")
_BEHAVIOUR = ("seen", "count", "silent")


class PlayUsage(msgspec.Struct, frozen=True):
    """A live play and what it came to of late."""

    play: Play
    entered: int
    reached: int
    held_out: int = 0


class MaturityCheck(msgspec.Struct, frozen=True):
    """One thing that a level wants, and what to do where it is missing."""

    level: int
    wants: str
    passed: bool
    cure: str


class Maturity(msgspec.Struct, frozen=True):
    """The level that is mastered (0 to 4), every check, what comes next, and plays that are ahead of it."""

    level: int
    checks: list[MaturityCheck]
    missing: list[str]
    ahead: list[str]
    rates: list[ConversionRate]
    baseline: float


def assess_maturity(
    ran: Sequence[PlayUsage], consents: int, baseline: float = BASELINE
) -> Maturity:
    """Return how far a workspace has come, by what really runs: a play in which nobody was of late counts for nothing."""
    running = [one for one in ran if one.entered]
    checks = [*_checks([one.play for one in running], running, consents)]
    level = 0
    while level < len(MATURITY_LEVELS) and all(
        check.passed for check in checks if check.level == level + 1
    ):
        level += 1
    missing = [check.cure for check in checks if check.level == level + 1 and not check.passed]
    ahead = [one.play.play for one in running if MATURITY_LEVELS.index(one.play.kind) > level]
    return Maturity(level, checks, missing, ahead, _rates(running), baseline)


def _checks(
    plays: Sequence[Play], ran: Sequence[PlayUsage], consents: int
) -> Iterator[MaturityCheck]:
    mails = [
        action
        for play in plays
        for action in iter_actions(play.steps)
        if action.mail and action.purpose == "marketing"
    ]
    yield MaturityCheck(1, "mails go out", bool(mails), "publish a play with an e-mail")
    yield MaturityCheck(
        1, "consent is recorded", consents > 0, "let forms send consent with what they send"
    )
    unsubscribable = bool(mails) and all(
        "unsubscribe_url" in action.mail.text for action in mails if action.mail
    )
    yield MaturityCheck(
        1,
        "every mail says how to unsubscribe",
        unsubscribable,
        "put {{ unsubscribe_url }} into every marketing mail",
    )
    personal = any("{{" in action.mail.subject for action in mails if action.mail)
    yield MaturityCheck(
        1, "a subject is personal", personal, "name somebody or something of theirs in a subject"
    )
    narrow = any(play.entry or play.trigger.segment for play in plays)
    yield MaturityCheck(
        2,
        "a play is for some and not for all",
        narrow,
        "give a play an `entry` or a segment as its trigger",
    )
    started = any(play.trigger.schedule is None for play in plays)
    yield MaturityCheck(
        3, "a play starts by itself", started, "let a move, a signal or a date start a play"
    )
    yield MaturityCheck(
        3,
        "derived data decide",
        _uses(plays, _DERIVED),
        "use a score, an axis or a stage in a condition",
    )
    measured = any(play.goal for play in plays)
    yield MaturityCheck(3, "a play has a goal", measured, "say what a play is for: `goal`")
    behaviour = _uses(plays, _BEHAVIOUR) or any(
        play.trigger.signal or play.trigger.silence for play in plays
    )
    yield MaturityCheck(
        4,
        "behaviour decides",
        behaviour,
        "let what people do, or stop doing, start or steer a play",
    )
    chosen = any(action.content for play in plays for action in iter_actions(play.steps))
    yield MaturityCheck(
        4, "content is chosen for each", chosen, "let an action choose its `content`"
    )
    compared = any(one.held_out and one.play.goal for one in ran)
    yield MaturityCheck(
        4, "a play is compared with those held out", compared, "give a play with a goal a `holdout`"
    )


def _uses(plays: Sequence[Play], atoms: Sequence[str]) -> bool:
    conditions = [condition for play in plays for _, condition in iter_conditions(play)]
    if condition_kinds(conditions) & set(atoms):
        return True
    return "stage" in atoms and any(play.trigger.stage_change for play in plays)


def _rates(ran: Sequence[PlayUsage]) -> list[ConversionRate]:
    """Return what broadcasts and conversations reached of their goals, beside each other."""
    found = []
    for name, loud in (("broadcast", True), ("conversation", False)):
        mine = [one for one in ran if (one.play.kind == "broadcast") is loud and one.play.goal]
        found.append(
            wilson_rate(name, sum(one.entered for one in mine), sum(one.reached for one in mine))
        )
    return found
