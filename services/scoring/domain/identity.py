"""Whose touchpoint is it? A fold too: its subject is the identifier, not the contact.

A known identifier (`user_id`, a verified `email`, `external:<system>`) is a person's own: its touchpoints are that
person's, and two of them are one person as long as a link joins them (`services.scoring.domain.identifier_components`). A touchpoint
with only an `anonymous_id` belongs to the owner of the last claim on that device at or before it, else of the first claim
after it, else to the anonymous contact. A claim is any touchpoint with a device and a known identifier, and an alias. So
a shared tablet never fuses two people, and nobody's order of arrival matters.

Claims are kept as runs: consecutive claims of one owner are one run from its first key, which answers the same question.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from libs.common import ids
from libs.common.messages import Touchpoint

Key = tuple[int, str, str]
Identifier = tuple[str, str]
"""(type, value), within one workspace."""
Link = tuple[Identifier, Identifier]
"""Two known identifiers of one person, the smaller first."""

MAX_LINKS = 50
"""An identifier with more links than this is nobody's own (a shared mailbox, a test user): none of its links count."""

# What programs send when they know nobody: as an identifier it would fuse strangers, so it is taken as absent.
JUNK = frozenset((
    "null", "(null)", "nil", "none", "undefined", "nan", "n/a", "na", "true", "false", "0", "-1", "[object object]",
    "{}", "[]", "unknown", "anonymous", "anon", "guest", "user_id", "userid", "id", "distinct_id", "email",
    "not_authenticated", "not set", "(not set)", "not_set", "-", "",
    "00000000-0000-0000-0000-000000000000",
))  # fmt: skip
_LONGEST_JUNK = max(map(len, JUNK))


class OwnershipPeriod(msgspec.Struct, frozen=True, gc=False):
    """From `key` on the device belongs to `owner`, until the next run."""

    key: Key
    owner: Identifier


class TouchpointIdentity(msgspec.Struct, frozen=True, gc=False):
    """What a touchpoint says of its person: known identifiers, strongest first, and a device; junk left out."""

    workspace: str
    key: Key
    names: tuple[Identifier, ...]
    device: str | None
    claims: tuple[tuple[str, Identifier], ...] = ()
    """(device, owner) of each device claimed: the touchpoint's own and an alias's previous id."""
    links: tuple[Link, ...] = ()
    """Links between known identifiers; a browser's key is public and links nobody."""
    previous: str | None = None
    """An alias's previous id."""


def is_junk(value: str) -> bool:
    """Return whether the id stands for nobody."""
    return len(value) <= _LONGEST_JUNK and value.strip().casefold() in JUNK


def extract_identity(touchpoint: Touchpoint) -> TouchpointIdentity:
    """Return what the touchpoint says of its person."""
    user_id, device = touchpoint.user_id, touchpoint.anonymous_id
    names: tuple[Identifier, ...] = (
        () if user_id is None or is_junk(user_id) else (("user_id", user_id),)
    )
    if device is not None and is_junk(device):
        device = None
    if touchpoint.verified_email or (touchpoint.trust == "server" and touchpoint.external_ids):
        names += _vouched_for(touchpoint)
    previous = touchpoint.previous_id if touchpoint.type == "alias" else None
    if previous is not None and is_junk(previous):
        previous = None
    claims: tuple[tuple[str, Identifier], ...] = ()
    if names and (device is not None or previous is not None):
        claims = tuple(
            (one, names[0])
            for one in sorted({device, previous} - {None}, key=str)
            if one is not None
        )
    links = _links(names, previous) if touchpoint.trust == "server" and names else ()
    return TouchpointIdentity(
        touchpoint.workspace, touchpoint.key, names, device, claims, links, previous
    )


def _vouched_for(touchpoint: Touchpoint) -> tuple[Identifier, ...]:
    names: list[Identifier] = []
    if touchpoint.verified_email is not None and not is_junk(touchpoint.verified_email):
        names.append(("email", touchpoint.verified_email))
    if touchpoint.trust == "server":
        names += sorted(
            (f"external:{s}", v) for s, v in touchpoint.external_ids.items() if not is_junk(v)
        )
    return tuple(names)


def _links(names: tuple[Identifier, ...], previous: str | None) -> tuple[Link, ...]:
    others = list(names[1:])
    if previous is not None:
        others.append(("user_id", previous))
    return tuple(make_link(names[0], other) for other in others if other != names[0])


def make_link(one: Identifier, other: Identifier) -> Link:
    """Return the link of two identifiers."""
    return (one, other) if one <= other else (other, one)


def ownership_periods(claims: Iterable[tuple[Key, Identifier]]) -> list[OwnershipPeriod]:
    """Return the runs of a device's claims (any order, repeats allowed)."""
    runs: list[OwnershipPeriod] = []
    for key, owner_ in sorted(set(claims)):
        if not runs or runs[-1].owner != owner_:
            runs.append(OwnershipPeriod(key, owner_))
    return runs


def owner_at(runs: Sequence[OwnershipPeriod], key: Key) -> Identifier | None:
    """Return to whom an anonymous touchpoint at `key` belongs, or None when nobody claimed the device."""
    if not runs:
        return None
    at = bisect_right(runs, key, key=lambda run: run.key)
    return runs[max(0, at - 1)].owner


def subject_identifier(who: TouchpointIdentity, runs: Sequence[OwnershipPeriod]) -> Identifier:
    """Return the identifier whose contact the touchpoint belongs to; `runs` are those of its device."""
    if who.names:
        return who.names[0]
    if who.device is None:
        return ("message", f"{who.key[1]}:{who.key[2]}")
    return owner_at(runs, who.key) or ("anonymous_id", who.device)


def new_contact_id(workspace: str, identifier: Identifier) -> str:
    """Return the id of the contact that an identifier creates: the same wherever and whenever it is first seen."""
    return ids.derive_id("contact", workspace, *identifier)
