"""Contact traits: the last value of each in key order, hence independent of arrival order."""

from typing import Any

import msgspec

from libs.common.messages import Touchpoint

MAX_TRAITS = 200
"""Most traits that a profile keeps; a new trait beyond it is ignored."""


class TraitEntry(msgspec.Struct, frozen=True, array_like=True):
    """A trait's value and the key of the touchpoint that set it; stored as a JSON array."""

    value: Any
    occurred_at: int
    source: str
    message_id: str

    @property
    def key(self) -> tuple[int, str, str]:
        """Return (occurred_at, source, message_id)."""
        return (self.occurred_at, self.source, self.message_id)


Profile = dict[str, TraitEntry]
"""{trait: entry}"""

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Profile)


def merge_traits(profile: Profile, touchpoint: Touchpoint) -> bool:
    """Set the traits for which the touchpoint has the latest key; return whether any changed."""
    changed = False
    key = touchpoint.key
    for name, value in touchpoint.traits.items():
        entry = profile.get(name)
        if entry is None and len(profile) >= MAX_TRAITS:
            continue
        if entry is None or entry.key < key:
            changed = changed or entry is None or entry.value != value
            profile[name] = TraitEntry(value, *key)
    return changed


def encode_profile(profile: Profile) -> str:
    """Return the profile as JSON, equal text for equal profiles; an SQL view shows the values."""
    return _encoder.encode(profile).decode()


def decode_profile(raw: str | None) -> Profile:
    """Rebuild a profile from its JSON; None gives an empty one."""
    return _decoder.decode(raw) if raw else {}


def trait_values(profile: Profile) -> dict[str, Any]:
    """Return {trait: value}."""
    return {name: entry.value for name, entry in profile.items()}
