"""Identity resolution of one touchpoint: from its identifiers to the contact it belongs to.

Identity is a fold too, in key order; its subject is the identifier, not the contact.

A known identifier (`user_id`, a verified `email`, `external:<system>`) belongs to one contact, and
so do its touchpoints; links join known identifiers into one contact (see
`services.scoring.domain.identifier_components`). A touchpoint with only an `anonymous_id` belongs
to the owner of the last claim on that device at or before its key, else of the first claim after
it, else to the anonymous contact. A claim is an alias, or any touchpoint with both a device and a
known identifier. So a shared tablet never merges two contacts, and the order of arrival makes no
difference.

Claims are stored as ownership periods: consecutive claims of one owner are one period from the
first claim's key, which gives the same answers.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from libs.common import ids
from libs.common.ids import ContactId, WorkspaceId
from libs.common.messages import Touchpoint

Key = tuple[int, str, str]
"""The key of a touchpoint in every fold: (occurred_at in µs UTC, source, message_id)."""
Identifier = tuple[str, str]
"""(type, value), within one workspace."""
Link = tuple[Identifier, Identifier]
"""Two known identifiers of one contact, the smaller first."""

MAX_LINKS = 50
"""Most links of an identifier.

With more it is shared (a team mailbox, a test user), and none of its links is effective.
"""

# Placeholders that programs send without an id; as identifiers they would merge strangers, so a
# touchpoint with one counts as having none.
JUNK = frozenset((
    "null", "(null)", "nil", "none", "undefined", "nan", "n/a", "na", "true", "false", "0", "-1",
    "[object object]", "{}", "[]", "unknown", "anonymous", "anon", "guest", "user_id", "userid",
    "id", "distinct_id", "email", "not_authenticated", "not set", "(not set)", "not_set", "-", "",
    "00000000-0000-0000-0000-000000000000",
))  # fmt: skip
_LONGEST_JUNK = max(map(len, JUNK))


class OwnershipPeriod(msgspec.Struct, frozen=True, gc=False):
    """A period in which a device belongs to `owner`: from `key` to the next period's key."""

    key: Key
    owner: Identifier


class TouchpointIdentity(msgspec.Struct, frozen=True, gc=False):
    """The identifiers of a touchpoint, junk left out.

    `names` are its known identifiers, the strongest first; `device` is its anonymous id.
    """

    workspace: WorkspaceId
    key: Key
    names: tuple[Identifier, ...]
    device: str | None
    claims: tuple[tuple[str, Identifier], ...] = ()
    """(device, owner) of each device claimed: the touchpoint's own and an alias's previous id."""
    links: tuple[Link, ...] = ()
    """Links between known identifiers, of server sources only: a browser's write key is public."""
    previous: str | None = None
    """The previous id of an alias."""


def is_junk(value: str) -> bool:
    """Return whether the id is a placeholder that identifies no contact."""
    return len(value) <= _LONGEST_JUNK and value.strip().casefold() in JUNK


def extract_identity(touchpoint: Touchpoint) -> TouchpointIdentity:
    """Return the identifiers, claims and links of the touchpoint."""
    user_id, device = touchpoint.user_id, touchpoint.anonymous_id
    names: tuple[Identifier, ...] = (
        () if user_id is None or is_junk(user_id) else (("user_id", user_id),)
    )
    if device is not None and is_junk(device):
        device = None
    if touchpoint.verified_email or (touchpoint.trust == "server" and touchpoint.external_ids):
        names += _verified_identifiers(touchpoint)
    previous = touchpoint.previous_id if touchpoint.type == "alias" else None
    if previous is not None and is_junk(previous):
        previous = None
    claims: tuple[tuple[str, Identifier], ...] = ()
    if names and (device is not None or previous is not None):
        claims = tuple(
            (claimed, names[0])
            for claimed in sorted({device, previous} - {None}, key=str)
            if claimed is not None
        )
    links = _links(names, previous) if touchpoint.trust == "server" and names else ()
    return TouchpointIdentity(
        touchpoint.workspace, touchpoint.key, names, device, claims, links, previous
    )


def _verified_identifiers(touchpoint: Touchpoint) -> tuple[Identifier, ...]:
    """Return the verified e-mail address and, of a server source, the external ids."""
    identifiers: list[Identifier] = []
    if touchpoint.verified_email is not None and not is_junk(touchpoint.verified_email):
        identifiers.append(("email", touchpoint.verified_email))
    if touchpoint.trust == "server":
        identifiers += sorted(
            (f"external:{system}", value)
            for system, value in touchpoint.external_ids.items()
            if not is_junk(value)
        )
    return tuple(identifiers)


def _links(names: tuple[Identifier, ...], previous: str | None) -> tuple[Link, ...]:
    """Return the links of the strongest identifier with each of the rest."""
    linked = list(names[1:])
    if previous is not None:
        linked.append(("user_id", previous))
    return tuple(make_link(names[0], identifier) for identifier in linked if identifier != names[0])


def make_link(first: Identifier, second: Identifier) -> Link:
    """Return the link of two identifiers, the smaller first."""
    return (first, second) if first <= second else (second, first)


def ownership_periods(claims: Iterable[tuple[Key, Identifier]]) -> list[OwnershipPeriod]:
    """Return the ownership periods of a device's claims, given in any order, repeats allowed."""
    periods: list[OwnershipPeriod] = []
    for key, owner in sorted(set(claims)):
        if not periods or periods[-1].owner != owner:
            periods.append(OwnershipPeriod(key, owner))
    return periods


def owner_at(periods: Sequence[OwnershipPeriod], key: Key) -> Identifier | None:
    """Return the owner of a device's anonymous touchpoint at `key`, or None without any claim.

    The owner is that of the last claim at or before `key`, else of the first claim.
    """
    if not periods:
        return None
    index = bisect_right(periods, key, key=lambda period: period.key)
    return periods[max(0, index - 1)].owner


def subject_identifier(
    identity: TouchpointIdentity, periods: Sequence[OwnershipPeriod]
) -> Identifier:
    """Return the identifier whose contact the touchpoint belongs to.

    `periods` are the ownership periods of its device. A touchpoint without any identifier has a
    contact to itself.
    """
    if identity.names:
        return identity.names[0]
    if identity.device is None:
        return ("message", f"{identity.key[1]}:{identity.key[2]}")
    return owner_at(periods, identity.key) or ("anonymous_id", identity.device)


def new_contact_id(workspace: WorkspaceId, identifier: Identifier) -> ContactId:
    """Return the contact id that an identifier creates: a hash, the same on every run."""
    return ContactId(ids.derive_id("contact", workspace, *identifier))
