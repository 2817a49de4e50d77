"""Which signals a touchpoint is under a cycle.

A bot's act, or a test, is no signal and ends no silence. Brand and market touchpoints and declared evidence are signals only
where a rule asks for them, and never end a silence.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.cycle_spec import CycleSpec, SignalMatch

MAX_NAMES = 10_000
KNOWN_VALUE = {"known": True}
RANGE_KEYS = frozenset(("at_least", "at_most"))
_Rules = tuple[
    tuple[int, ...], tuple[tuple[int, SignalMatch], ...], tuple[tuple[int, SignalMatch], ...], bool
]


class FoldEvent(msgspec.Struct, frozen=True, gc=False):
    """A touchpoint as the fold sees it. `present` says that the person was there, so a silence ends."""

    at: int
    source: str
    message_id: str
    signals: Sequence[int]
    present: bool
    traits: dict[str, Any]
    manual: tuple[tuple[int, int, int], ...] = ()
    """(axis, place, until) of each axis set by hand."""

    @property
    def key(self) -> tuple[int, str, str]:
        """Return (occurred_at, source, message_id)."""
        return (self.at, self.source, self.message_id)


class SignalClassifier:
    """Finds signals by (type, name) first, so that most rules are never looked at."""

    def __init__(self, spec: CycleSpec, traits: list[str]) -> None:
        self._traits = frozenset(traits)
        self._published = frozenset(
            n for n, signal in enumerate(spec.signals.values()) if signal.publish
        )
        self._by_name: dict[tuple[str | None, str | None], list[tuple[int, SignalMatch]]] = {}
        for number, signal in enumerate(spec.signals.values()):
            for match in signal.match:
                self._by_name.setdefault((match.type, match.name), []).append((number, match))
        self._rules: dict[tuple[str, str], _Rules] = {}

    def to_fold_event(self, touchpoint: Touchpoint) -> FoldEvent:
        """Return the touchpoint with its signals."""
        theirs = touchpoint.initiative == "contact" and touchpoint.evidence == "observed"
        present = theirs and not touchpoint.is_bot and touchpoint.mode != "test"
        traits = (
            {k: v for k, v in touchpoint.traits.items() if k in self._traits}
            if self._traits
            else {}
        )
        return FoldEvent(
            touchpoint.occurred_at,
            touchpoint.source,
            touchpoint.message_id,
            self.match_signals(touchpoint),
            present,
            traits,
        )

    def published_signals(self, touchpoint: Touchpoint) -> Sequence[int]:
        """Return the numbers of those of the touchpoint's signals that are published; most names have none."""
        place = (touchpoint.type, touchpoint.name)
        rules = self._rules.get(place) or self._find_rules(place)
        return self.match_signals(touchpoint) if rules[3] else ()

    def match_signals(self, touchpoint: Touchpoint) -> Sequence[int]:
        """Return the numbers of the touchpoint's signals, ascending, each once."""
        if touchpoint.is_bot or touchpoint.mode == "test":
            return ()
        place = (touchpoint.type, touchpoint.name)
        rules = self._rules.get(place)
        if rules is None:
            rules = self._find_rules(place)
        plain, others, on_consent, _ = rules
        if touchpoint.initiative != "contact" or touchpoint.evidence != "observed":
            plain = ()
        if touchpoint.consent:
            others += on_consent
        found = [number for number, match in others if _fits(match, touchpoint)] if others else ()
        return sorted({*plain, *found}) if found else plain

    def _find_rules(self, place: tuple[str, str]) -> "_Rules":
        """Return the rules for (type, name): by the name alone, to look at each time, on consent; and if any publishes."""
        kind, name = place
        rules = [
            rule
            for key in ((kind, name), (kind, None), (None, name), (None, None))
            for rule in self._by_name.get(key, ())
        ]
        found = (
            tuple(sorted({number for number, match in rules if _by_name_alone(match)})),
            tuple(rule for rule in rules if not _by_name_alone(rule[1]) and not rule[1].consent),
            tuple(rule for rule in rules if rule[1].consent),
            any(number in self._published for number, _ in rules),
        )
        if len(self._rules) < MAX_NAMES:  # names come from outside: not without bound
            self._rules[place] = found
        return found


def _by_name_alone(match: SignalMatch) -> bool:
    """Return whether any ordinary touchpoint of the name fits: the person's own, observed act."""
    return match == SignalMatch(type=match.type, name=match.name)


def _fits(match: SignalMatch, touchpoint: Touchpoint) -> bool:
    if touchpoint.initiative != match.initiative or touchpoint.evidence != match.evidence:
        return False
    if match.trust is not None and touchpoint.trust != match.trust:
        return False
    if match.identified is not None and match.identified != (touchpoint.user_id is not None):
        return False
    if any(
        touchpoint.consent.get(purpose) is not given for purpose, given in match.consent.items()
    ):
        return False
    return all(
        _has(touchpoint.properties.get(name), wanted) for name, wanted in match.properties.items()
    )


def _has(value: Any, wanted: Any) -> bool:
    """Return whether a property is the wanted one, is there at all, or is a number within `{at_least, at_most}`."""
    if wanted == KNOWN_VALUE:
        return value is not None and value != ""
    if not isinstance(wanted, dict) or not (
        wanted.keys() & RANGE_KEYS and wanted.keys() <= RANGE_KEYS
    ):
        return bool(value == wanted)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return bool(wanted.get("at_least", value) <= value <= wanted.get("at_most", value))
