"""Signal classification: the signals that a touchpoint carries under a cycle.

Touchpoints of bots and tests carry no signal and end no silence. Brand and market touchpoints and
declared evidence carry a signal only where a rule asks for them, and never end a silence.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.cycle_spec import CycleSpec, SignalMatch

MAX_NAMES = 10_000
"""Most (type, name) pairs with cached rules; senders choose names, so the cache is bounded."""
KNOWN_VALUE = {"known": True}
RANGE_KEYS = frozenset(("at_least", "at_most"))
_Rules = tuple[
    tuple[int, ...], tuple[tuple[int, SignalMatch], ...], tuple[tuple[int, SignalMatch], ...], bool
]
"""The rules of a (type, name).

Signals that match by type and name alone, by number; rules with further conditions; rules on
consent; whether any of the signals is published.
"""


class FoldEvent(msgspec.Struct, frozen=True, gc=False):
    """A touchpoint, or a manual stage, in the form that the fold takes.

    `at` is microseconds UTC; `signals` are signal numbers, ascending. `present` is true for an
    observed act of the contact's own initiative, which ends a silence.
    """

    at: int
    source: str
    message_id: str
    signals: Sequence[int]
    present: bool
    traits: dict[str, Any]
    manual: tuple[tuple[int, int, int], ...] = ()
    """(axis number, stage index, until in µs) of each axis set by hand."""

    @property
    def key(self) -> tuple[int, str, str]:
        """Return (occurred_at, source, message_id)."""
        return (self.at, self.source, self.message_id)


class SignalClassifier:
    """Classifier of a cycle version; an index by (type, name) leaves few rules to evaluate."""

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
        """Return the touchpoint as a fold event, with the traits that conditions compare."""
        is_own_act = touchpoint.initiative == "contact" and touchpoint.evidence == "observed"
        present = is_own_act and not touchpoint.is_bot and touchpoint.mode != "test"
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
        """Return the numbers of the touchpoint's signals, or none if its name has no published one.

        Most names have none. The result may contain unpublished signals; the caller skips these.
        """
        rule_key = (touchpoint.type, touchpoint.name)
        rules = self._rules.get(rule_key) or self._find_rules(rule_key)
        return self.match_signals(touchpoint) if rules[3] else ()

    def match_signals(self, touchpoint: Touchpoint) -> Sequence[int]:
        """Return the numbers of the touchpoint's signals, ascending and distinct."""
        if touchpoint.is_bot or touchpoint.mode == "test":
            return ()
        rule_key = (touchpoint.type, touchpoint.name)
        rules = self._rules.get(rule_key)
        if rules is None:
            rules = self._find_rules(rule_key)
        by_name, conditional, on_consent, _ = rules
        if touchpoint.initiative != "contact" or touchpoint.evidence != "observed":
            by_name = ()
        if touchpoint.consent:
            conditional += on_consent
        matched = (
            [number for number, match in conditional if _fits(match, touchpoint)]
            if conditional
            else ()
        )
        return sorted({*by_name, *matched}) if matched else by_name

    def _find_rules(self, rule_key: tuple[str, str]) -> "_Rules":
        """Return the rules of a (type, name), from the cache or the specification."""
        call_type, name = rule_key
        matches = [
            rule
            for key in ((call_type, name), (call_type, None), (None, name), (None, None))
            for rule in self._by_name.get(key, ())
        ]
        rules = (
            tuple(sorted({number for number, match in matches if _is_by_name_alone(match)})),
            tuple(
                rule for rule in matches if not _is_by_name_alone(rule[1]) and not rule[1].consent
            ),
            tuple(rule for rule in matches if rule[1].consent),
            any(number in self._published for number, _ in matches),
        )
        if len(self._rules) < MAX_NAMES:
            self._rules[rule_key] = rules
        return rules


def _is_by_name_alone(match: SignalMatch) -> bool:
    """Return whether every observed act of the contact with this type and name fits."""
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
        _property_fits(touchpoint.properties.get(name), wanted)
        for name, wanted in match.properties.items()
    )


def _property_fits(value: Any, wanted: Any) -> bool:
    """Return whether a property value fits: equal, present, or within `{at_least, at_most}`."""
    if wanted == KNOWN_VALUE:
        return value is not None and value != ""
    if not isinstance(wanted, dict) or not (
        wanted.keys() & RANGE_KEYS and wanted.keys() <= RANGE_KEYS
    ):
        return bool(value == wanted)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return bool(wanted.get("at_least", value) <= value <= wanted.get("at_most", value))
