"""A contact's traits: of each the last value in key order, so the order of arrival leaves no trace."""

from typing import Any

import msgspec

from libs.common.messages import Touchpoint

MAX_TRAITS = 200
TraitEntry = tuple[Any, int, str, str]
Profile = dict[str, TraitEntry]
"""{trait: (value, occurred_at, source, message_id)}"""

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(dict[str, TraitEntry])


def merge_traits(profile: Profile, touchpoint: Touchpoint) -> bool:
    """Add the touchpoint's traits to the profile where they are newer; return whether a value changed."""
    changed = False
    key = touchpoint.key
    for name, value in touchpoint.traits.items():
        known = profile.get(name)
        if known is None and len(profile) >= MAX_TRAITS:
            continue
        if known is None or known[1:] < key:
            changed = changed or known is None or known[0] != value
            profile[name] = (value, *key)
    return changed


def encode_profile(profile: Profile) -> str:
    """Return the profile as JSON, equal for equal profiles; a view shows others the values."""
    return _encoder.encode(profile).decode()


def decode_profile(raw: str | None) -> Profile:
    """Rebuild a profile."""
    return _decoder.decode(raw) if raw else {}


def trait_values(profile: Profile) -> dict[str, Any]:
    """Return the traits without their keys."""
    return {name: entry[0] for name, entry in profile.items()}
