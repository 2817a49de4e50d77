"""What a play may know of a contact when it decides: gathered once, then everything is a pure function of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from libs.common.decay import decay

MAX_INSTANTS = 100
"""Of each signal so many of the newest instants are known."""


class DecayingScore(msgspec.Struct, frozen=True, gc=False):
    """A decaying sum: `value` at `at`, halving every `half_life` (µs)."""

    value: float
    at: int
    half_life: int

    def value_at(self, t: int) -> float:
        """Return the value at t (µs UTC), which is not before `at`: the fold's own arithmetic."""
        return self.value * decay(max(0, t - self.at), self.half_life)


class CycleFacts(msgspec.Struct, frozen=True):
    """Where a contact stands in one cycle. `ladders` are the cycle's axes, each with its stages in order."""

    stage: str
    dormant: bool = False
    axes: Mapping[str, str] = {}
    scores: Mapping[str, DecayingScore] = {}
    ladders: Mapping[str, Sequence[str]] = {}
    ring: int = 0


class ContactFacts(msgspec.Struct, frozen=True):
    """One contact as it is known now. `contact_id` is the survivor's if it was merged; instants in µs UTC."""

    contact_id: str
    traits: Mapping[str, Any] = {}
    standings: Mapping[str, CycleFacts] = {}
    signals: Mapping[str, Sequence[int]] = {}
    """Of each published signal the newest instants, the newest last."""
    last_act: int | None = None
    """When the contact last did something of its own."""
    consents: Mapping[str, bool] = {}
    suppressed: Mapping[str, str] = {}
    """By channel, why nothing goes out on it."""
    user_id: str | None = None
    anonymous_id: str | None = None
    external_ids: Mapping[str, str] = {}
    seen_content: Mapping[str, int] = {}
    """When each content was last shown."""
    verified_emails: frozenset[str] = frozenset()
    """The addresses that a server vouches for, in lower case."""
    last_touch: int | None = None
    """When anybody was last in touch, on either side. This and what follows is known where a condition asks for it."""
    planned: bool = False
    """Whether a play has a next step for the contact."""
    events: frozenset[str] = frozenset()
    """The kinds of compelling events that are open about the contact, or an account of theirs."""

    @property
    def email(self) -> str | None:
        """Return the address that the contact gave."""
        found = self.traits.get("email")
        return found if isinstance(found, str) and found else None

    @property
    def time_zone(self) -> str:
        """Return the name of the contact's time zone, UTC where none is known."""
        found = self.traits.get("timezone")
        return found if isinstance(found, str) and found else "UTC"

    def last_seen(self, signal: str) -> int | None:
        """Return when a signal was last seen."""
        found = self.signals.get(signal)
        return found[-1] if found else None
