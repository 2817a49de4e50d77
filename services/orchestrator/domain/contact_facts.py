"""Facts about a contact as of a decision: read once, the input of every pure function of plays."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from libs.common.ids import ContactId

MAX_INSTANTS = 100
"""Number of instants that are read per signal, the newest."""


class DecayingScore(msgspec.Struct, frozen=True, gc=False):
    """A decaying sum: `value` at `at`, halving every `half_life` (µs)."""

    value: float
    at: int
    half_life: int


class CycleFacts(msgspec.Struct, frozen=True):
    """A contact's state in one cycle; `ladders` are the stages of each axis in order."""

    stage: str
    dormant: bool = False
    axes: Mapping[str, str] = {}
    scores: Mapping[str, DecayingScore] = {}
    ladders: Mapping[str, Sequence[str]] = {}
    ring: int = 0


class ContactFacts(msgspec.Struct, frozen=True):
    """The facts about one contact. `contact_id` is canonical (after merges); instants in µs UTC."""

    contact_id: ContactId
    traits: Mapping[str, Any] = {}
    standings: Mapping[str, CycleFacts] = {}
    signals: Mapping[str, Sequence[int]] = {}
    """The newest instants of each published signal, in ascending order."""
    last_act: int | None = None
    """Instant of the contact's last own act."""
    consents: Mapping[str, bool] = {}
    suppressed: Mapping[str, str] = {}
    """{channel: reason of the suppression}"""
    user_id: str | None = None
    anonymous_id: str | None = None
    external_ids: Mapping[str, str] = {}
    seen_content: Mapping[str, int] = {}
    """{content: instant at which it was last shown}"""
    verified_emails: frozenset[str] = frozenset()
    """Addresses verified by a trusted server, in lower case."""
    last_touch: int | None = None
    """Instant of the last touch by either side.

    This and the fields below are costly, so they are read only if a condition needs them.
    """
    planned: bool = False
    """Whether an active enrollment has a next step for the contact."""
    events: frozenset[str] = frozenset()
    """Kinds of the open compelling events about the contact or its accounts."""

    @property
    def email(self) -> str | None:
        """Return the e-mail address among the traits."""
        address = self.traits.get("email")
        return address if isinstance(address, str) and address else None

    @property
    def time_zone(self) -> str:
        """Return the name of the contact's time zone, by default UTC."""
        name = self.traits.get("timezone")
        return name if isinstance(name, str) and name else "UTC"

    def last_seen(self, signal: str) -> int | None:
        """Return the instant of the last occurrence of a signal."""
        instants = self.signals.get(signal)
        return instants[-1] if instants else None
