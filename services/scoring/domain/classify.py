"""Which signals a touchpoint is under a cycle.

A bot's act is no signal and ends no silence. Brand and market touchpoints and declared evidence are signals only where a
rule asks for them, and never end a silence.
"""

from typing import Any

import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.spec import CycleSpec, Match


class Occurrence(msgspec.Struct, frozen=True):
    """A touchpoint as the fold sees it. `present` says that the person was there, so a silence ends."""

    at: int
    source: str
    message_id: str
    signals: list[int]
    present: bool
    traits: dict[str, Any]

    @property
    def key(self) -> tuple[int, str, str]:
        """Return (occurred_at, source, message_id)."""
        return (self.at, self.source, self.message_id)


class Classifier:
    """Finds signals by (type, name) first, so that most rules are never looked at."""

    def __init__(self, spec: CycleSpec, traits: list[str]) -> None:
        self._traits = frozenset(traits)
        self._by_name: dict[tuple[str | None, str | None], list[tuple[int, Match]]] = {}
        for number, signal in enumerate(spec.signals.values()):
            for match in signal.match:
                self._by_name.setdefault((match.type, match.name), []).append((number, match))

    def occurrence(self, touchpoint: Touchpoint) -> Occurrence:
        """Return the touchpoint with its signals."""
        present = touchpoint.initiative == "contact" and touchpoint.evidence == "observed" and not touchpoint.is_bot
        traits = {k: v for k, v in touchpoint.traits.items() if k in self._traits} if self._traits else {}
        return Occurrence(
            touchpoint.occurred_at, touchpoint.source, touchpoint.message_id, self.signals(touchpoint), present, traits
        )

    def signals(self, touchpoint: Touchpoint) -> list[int]:
        """Return the numbers of the touchpoint's signals, ascending, each once."""
        if touchpoint.is_bot or touchpoint.mode == "test":
            return []
        kind, name = touchpoint.type, touchpoint.name
        found = [
            number
            for place in ((kind, name), (kind, None), (None, name), (None, None))
            for number, match in self._by_name.get(place, ())
            if _fits(match, touchpoint)
        ]
        return sorted(set(found)) if len(found) > 1 else found


def _fits(match: Match, touchpoint: Touchpoint) -> bool:
    if touchpoint.initiative != match.initiative or touchpoint.evidence != match.evidence:
        return False
    if match.trust is not None and touchpoint.trust != match.trust:
        return False
    if match.identified is not None and match.identified != (touchpoint.user_id is not None):
        return False
    if any(touchpoint.consent.get(purpose) is not given for purpose, given in match.consent.items()):
        return False
    return all(touchpoint.properties.get(name) == value for name, value in match.properties.items())
