"""Whose touchpoint is it? A fold too: its subject is the identifier, not the contact.

A touchpoint with a `user_id` is that user's. One with only an `anonymous_id` is the user's of the last claim on that id
at or before it, else of the first claim after it, else the anonymous contact's. A claim is any touchpoint with both ids.
So a shared tablet never fuses two people, and nobody's order of arrival matters.

Claims are kept as runs: consecutive claims of one user are one run from its first key, which answers the same question.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from libs.common import ids
from libs.common.messages import Touchpoint

Key = tuple[int, str, str]
Identifier = tuple[str, str]
"""(type, value), within one workspace."""


class Run(msgspec.Struct, frozen=True):
    """From `key` on the device belongs to `user_id`, until the next run."""

    key: Key
    user_id: str


def runs_of(claims: Iterable[tuple[Key, str]]) -> list[Run]:
    """Return the runs of a device's claims (any order, repeats allowed)."""
    runs: list[Run] = []
    for key, user_id in sorted(set(claims)):
        if not runs or runs[-1].user_id != user_id:
            runs.append(Run(key, user_id))
    return runs


def owner(runs: Sequence[Run], key: Key) -> str | None:
    """Return the user to whom an anonymous touchpoint at `key` belongs, or None when nobody claimed the device."""
    if not runs:
        return None
    at = bisect_right(runs, key, key=lambda run: run.key)
    return runs[max(0, at - 1)].user_id


def claim_of(touchpoint: Touchpoint) -> tuple[str, str] | None:
    """Return (anonymous_id, user_id) when the touchpoint claims a device for a user."""
    if touchpoint.user_id is not None and touchpoint.anonymous_id is not None:
        return touchpoint.anonymous_id, touchpoint.user_id
    return None


def subject(touchpoint: Touchpoint, runs: Sequence[Run]) -> Identifier:
    """Return the identifier whose contact the touchpoint belongs to; `runs` are those of its anonymous_id."""
    if touchpoint.user_id is not None:
        return ("user_id", touchpoint.user_id)
    if touchpoint.anonymous_id is None:
        return ("message", f"{touchpoint.source}:{touchpoint.message_id}")
    user_id = owner(runs, touchpoint.key)
    return ("anonymous_id", touchpoint.anonymous_id) if user_id is None else ("user_id", user_id)


def new_contact_id(workspace: str, identifier: Identifier) -> str:
    """Return the id of the contact that an identifier creates: the same wherever and whenever it is first seen."""
    return ids.derive("contact", workspace, *identifier)
