"""A batch against what is known: who each touchpoint belongs to, who is new, which devices change hands."""

from collections.abc import Sequence

import msgspec

from libs.common.messages import Touchpoint
from services.scoring.domain.identity import Identifier, Key, Run, claim_of, new_contact_id, runs_of, subject

Place = tuple[str, str]
"""(workspace, anonymous_id)"""


class Known(msgspec.Struct):
    """What PostgreSQL says of a batch's identifiers: their contacts, and the runs of their devices."""

    contacts: dict[tuple[str, Identifier], str]
    runs: dict[Place, list[Run]]


class Assignment(msgspec.Struct):
    """The decision for a batch.

    `contacts` runs along the touchpoints; `changed` are devices whose runs are new; `merged` maps an anonymous contact
    to the known user's contact that it merges into.
    """

    contacts: list[str]
    new: dict[tuple[str, Identifier], str]
    changed: dict[Place, list[Run]]
    merged: dict[str, str]


def contested(touchpoints: Sequence[Touchpoint], known: Known) -> set[Place]:
    """Return the devices on which the batch has claims of more than one user, stored ones counted.

    Only for these does a new claim's key matter, and every stored claim is needed to find the runs.
    """
    users: dict[Place, set[str]] = {}
    for touchpoint in touchpoints:
        claim = claim_of(touchpoint)
        if claim is not None:
            place = (touchpoint.workspace, claim[0])
            users.setdefault(place, {run.user_id for run in known.runs.get(place, ())}).add(claim[1])
    return {place for place, found in users.items() if len(found) > 1}


def assign(
    touchpoints: Sequence[Touchpoint], known: Known, stored_claims: dict[Place, list[tuple[Key, str]]]
) -> Assignment:
    """Assign touchpoints in key order; `stored_claims` has every stored claim of the contested devices."""
    changed = _new_runs(touchpoints, known, stored_claims)
    found = Assignment([], {}, changed, {})
    for place, runs in sorted(changed.items(), key=lambda item: item[1][0].key):
        if not known.runs.get(place):
            _first_claim(place, runs[0].user_id, known, found)
    for touchpoint in touchpoints:
        place = (touchpoint.workspace, touchpoint.anonymous_id or "")
        runs = changed.get(place) or known.runs.get(place, [])
        found.contacts.append(_contact(touchpoint.workspace, subject(touchpoint, runs), known, found))
    return found


def _new_runs(
    touchpoints: Sequence[Touchpoint], known: Known, stored: dict[Place, list[tuple[Key, str]]]
) -> dict[Place, list[Run]]:
    claims: dict[Place, list[tuple[Key, str]]] = {}
    for touchpoint in touchpoints:
        claim = claim_of(touchpoint)
        if claim is not None:
            claims.setdefault((touchpoint.workspace, claim[0]), []).append((touchpoint.key, claim[1]))
    changed = {}
    for place, fresh in claims.items():
        before = known.runs.get(place, [])
        if {user for _, user in fresh} == {run.user_id for run in before} and len(before) == 1:
            continue  # one user's device, claimed by that user again
        runs = runs_of([*fresh, *stored.get(place, []), *((run.key, run.user_id) for run in before)])
        if runs != before:
            changed[place] = runs
    return changed


def _first_claim(place: Place, user_id: str, known: Known, found: Assignment) -> None:
    """Give the device's contact to a user not known before; a known user's contact takes the device's in."""
    workspace, anonymous_id = place
    user = (workspace, ("user_id", user_id))
    device = (workspace, ("anonymous_id", anonymous_id))
    home = known.contacts.get(device) or new_contact_id(workspace, device[1])
    contact = known.contacts.get(user) or found.new.get(user)
    if contact is None:
        contact = found.new[user] = home
    if device not in known.contacts:
        # A claimed device always has a row, so that two first uses of it at once meet there.
        found.new[device] = contact
    elif home != contact:
        found.merged[home] = contact


def _contact(workspace: str, identifier: Identifier, known: Known, found: Assignment) -> str:
    place = (workspace, identifier)
    contact = known.contacts.get(place) or found.new.get(place)
    if contact is None:
        contact = found.new[place] = new_contact_id(workspace, identifier)
    return contact
