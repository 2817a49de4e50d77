"""Maturity of a workspace: four levels, from broadcasts to content chosen by behaviour. Pure.

A level is mastered when its checks and those of the levels below pass. No feature is locked: plays
of a higher level than the mastered one are reported as ahead. Good practices of the first level:
consent, a working unsubscribe link, a personal subject.
"""

from collections.abc import Iterator, Sequence

import msgspec

from libs.common.conditions import condition_kinds
from services.orchestrator.domain.conversion_rate import ConversionRate, wilson_rate
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.play_program import iter_actions, iter_conditions

MATURITY_LEVELS = ("broadcast", "segment", "automated", "predictive")
BASELINE = 0.02
"""Default conversion rate of a broadcast; PERIGEE_BASELINE overrides it."""
_DERIVED_KINDS = ("score", "axis", "stage")
_BEHAVIOUR_KINDS = ("seen", "count", "silent")


class PlayUsage(msgspec.Struct, frozen=True):
    """A live play with its recent enrollments, goals and holdout."""

    play: Play
    entered: int
    reached: int
    held_out: int = 0


class MaturityCheck(msgspec.Struct, frozen=True):
    """One requirement of a level, with the remedy if it is not met."""

    level: int
    wants: str
    passed: bool
    cure: str


class Maturity(msgspec.Struct, frozen=True):
    """The mastered level (0 to 4), all checks, the remedies for the next level, and plays ahead."""

    level: int
    checks: list[MaturityCheck]
    missing: list[str]
    ahead: list[str]
    rates: list[ConversionRate]
    baseline: float


def assess_maturity(
    usages: Sequence[PlayUsage], consents: int, baseline: float = BASELINE
) -> Maturity:
    """Return the maturity of a workspace; plays without recent enrollments do not count."""
    running = [usage for usage in usages if usage.entered]
    checks = [*_checks([usage.play for usage in running], running, consents)]
    level = 0
    while level < len(MATURITY_LEVELS) and all(
        check.passed for check in checks if check.level == level + 1
    ):
        level += 1
    missing = [check.cure for check in checks if check.level == level + 1 and not check.passed]
    ahead = [u.play.play for u in running if MATURITY_LEVELS.index(u.play.kind) > level]
    return Maturity(level, checks, missing, ahead, _rates(running), baseline)


def _checks(
    plays: Sequence[Play], usages: Sequence[PlayUsage], consents: int
) -> Iterator[MaturityCheck]:
    mails = [
        action
        for play in plays
        for action in iter_actions(play.steps)
        if action.mail and action.purpose == "marketing"
    ]
    yield MaturityCheck(1, "mails go out", bool(mails), "publish a play with an e-mail")
    yield MaturityCheck(
        1, "consent is recorded", consents > 0, "send the consent of a form together with its data"
    )
    unsubscribable = bool(mails) and all(
        "unsubscribe_url" in action.mail.text for action in mails if action.mail
    )
    yield MaturityCheck(
        1,
        "every mail has an unsubscribe link",
        unsubscribable,
        "put {{ unsubscribe_url }} into every marketing mail",
    )
    personal = any("{{" in action.mail.subject for action in mails if action.mail)
    yield MaturityCheck(
        1,
        "a subject is personal",
        personal,
        "use a template variable in a subject, such as the contact's name",
    )
    targeted = any(play.entry or play.trigger.segment for play in plays)
    yield MaturityCheck(
        2,
        "a play addresses a part of the contacts",
        targeted,
        "give a play an `entry` or a segment as its trigger",
    )
    triggered = any(play.trigger.schedule is None for play in plays)
    yield MaturityCheck(
        3,
        "a play starts automatically",
        triggered,
        "give a play a stage change, a signal or a date as its trigger",
    )
    yield MaturityCheck(
        3,
        "conditions use derived data",
        _uses_conditions(plays, _DERIVED_KINDS),
        "use a score, an axis or a stage in a condition",
    )
    measured = any(play.goal for play in plays)
    yield MaturityCheck(3, "a play has a goal", measured, "give a play a `goal`")
    behaviour = _uses_conditions(plays, _BEHAVIOUR_KINDS) or any(
        play.trigger.signal or play.trigger.silence for play in plays
    )
    yield MaturityCheck(
        4,
        "plays react to behaviour",
        behaviour,
        "use a signal or a silence as a trigger, or behaviour in a condition",
    )
    chosen = any(action.content for play in plays for action in iter_actions(play.steps))
    yield MaturityCheck(
        4, "content is chosen per contact", chosen, "give an action a `content` request"
    )
    compared = any(usage.held_out and usage.play.goal for usage in usages)
    yield MaturityCheck(
        4, "a play is compared with its holdout", compared, "give a play with a goal a `holdout`"
    )


def _uses_conditions(plays: Sequence[Play], kinds: Sequence[str]) -> bool:
    conditions = [condition for play in plays for _, condition in iter_conditions(play)]
    if condition_kinds(conditions) & set(kinds):
        return True
    return "stage" in kinds and any(play.trigger.stage_change for play in plays)


def _rates(usages: Sequence[PlayUsage]) -> list[ConversionRate]:
    """Return the goal rates of broadcasts and of all other plays."""
    rates = []
    for name, is_broadcast in (("broadcast", True), ("conversation", False)):
        group = [u for u in usages if (u.play.kind == "broadcast") is is_broadcast and u.play.goal]
        entered, reached = sum(u.entered for u in group), sum(u.reached for u in group)
        rates.append(wilson_rate(name, entered, reached))
    return rates
