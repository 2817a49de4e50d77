"""The proof of the one rule: fold every stored touchpoint in one process, and compare with what is stored.

Passes over one snapshot: claims, links and corrections give the people, then every touchpoint in key order goes to its
person's fold. What is compared are the pure rows: the folded state and the open transitions, byte for byte, contacts
matched by their set of identifiers.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.db.connection import Connection
from libs.common.messages import Touchpoint
from services.scoring.domain.account_membership import MembershipTracker
from services.scoring.domain.correction import apply_verdicts, manual_stage_events
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold import advance, apply_event
from services.scoring.domain.fold_state import FoldState
from services.scoring.domain.identity_resolution import IdentityResolver, SubjectKey
from services.scoring.domain.move import Move, decode_move
from services.scoring.repository import replay_source
from services.scoring.repository.replay_source import Identifiers, StoredRows

SHOWN = 20
ACCOUNT = "account"
"""Stands for the type of identifier in an account's name among the people."""


class ReplayedFold(msgspec.Struct):
    """A person folded again, in one cycle."""

    state: FoldState
    moves: list[Move]


class ReplayedHistory(msgspec.Struct):
    """Everything folded again."""

    touchpoints: int
    folds: dict[SubjectKey, dict[str, ReplayedFold]]
    people: IdentityResolver


async def replay_all(connection: Connection, cycles: Sequence[ActiveCycle]) -> ReplayedHistory:
    """Fold every stored touchpoint from nothing."""
    verdicts = await replay_source.get_verdicts(connection)
    people = IdentityResolver(await replay_source.list_manual_links(connection))
    async for touchpoint in replay_source.iter_touchpoints(connection):
        for kept in apply_verdicts([touchpoint], verdicts.get(touchpoint.workspace, {})):
            people.add_touchpoint(kept)
    people.resolve()
    waiting = await replay_source.list_manual_stages(connection)
    manuals = sorted(
        ((people.subject_of_identifier(w, name), m) for w, name, m in waiting),
        key=lambda one: one[1].key,
        reverse=True,
    )
    found, members = ReplayedHistory(0, {}, people), MembershipTracker({})
    contacts = [cycle for cycle in cycles if not cycle.is_account_cycle]
    companies = [cycle for cycle in cycles if cycle.is_account_cycle]
    async for touchpoint in replay_source.iter_touchpoints(connection):
        while manuals and manuals[-1][1].key < touchpoint.key:
            _by_hand(found, contacts, *manuals.pop())
        found.touchpoints += 1
        for kept in apply_verdicts([touchpoint], verdicts.get(touchpoint.workspace, {})):
            person = people.subject_of_touchpoint(kept)
            _take(found, contacts, person, kept)
            for account in (
                sorted(members.add_touchpoint(":".join(person), kept)) if companies else ()
            ):
                _take(found, companies, SubjectKey(kept.workspace, ACCOUNT, account), kept)
    while manuals:
        _by_hand(found, contacts, *manuals.pop())
    return found


def _take(
    found: ReplayedHistory,
    cycles: Sequence[ActiveCycle],
    subject: SubjectKey,
    touchpoint: Touchpoint,
) -> None:
    folds = _folds(found, cycles, subject)
    for cycle in cycles:
        fold = folds[cycle.engine.fold]
        apply_event(
            cycle.engine, fold.state, cycle.classifier.to_fold_event(touchpoint), fold.moves
        )


def _folds(
    found: ReplayedHistory, cycles: Sequence[ActiveCycle], person: SubjectKey
) -> dict[str, ReplayedFold]:
    if person not in found.folds:
        found.folds[person] = {
            c.engine.fold: ReplayedFold(c.engine.initial_state(), []) for c in cycles
        }
    return found.folds[person]


def _by_hand(
    found: ReplayedHistory, cycles: Sequence[ActiveCycle], person: SubjectKey, manual: Any
) -> None:
    for cycle in cycles:
        for occurrence in manual_stage_events(cycle.engine, [manual]):
            fold = _folds(found, cycles, person)[cycle.engine.fold]
            apply_event(cycle.engine, fold.state, occurrence, fold.moves)


async def compare_with_stored(
    connection: Connection, cycles: Sequence[ActiveCycle], frontier: int
) -> dict[str, Any]:
    """Compare a fresh fold, advanced to `frontier`, with the stored pure rows; `connection` is in one snapshot."""
    folded = await replay_all(connection, cycles)
    stored = await replay_source.get_pure_rows(
        connection, {c.engine.fold: c.engine.name for c in cycles}
    )
    contacts = {
        names: contact
        for contact, names in (await replay_source.get_identifiers(connection)).items()
    }
    differences: list[str] = []
    transitions = 0
    for who, by_fold in folded.folds.items():
        contact = who[2] if who[1] == ACCOUNT else _contact(folded, who, contacts, differences)
        for cycle in cycles:
            fold = by_fold.get(cycle.engine.fold)
            if fold is None or fold.state.is_empty:
                continue
            state = fold.state.encode()
            advance(cycle.engine, fold.state, frontier, fold.moves)
            transitions += len(fold.moves)
            row = stored.pop((contact, cycle.engine.name), StoredRows())
            differences += [
                f"{':'.join(who)} in {cycle.engine.name}: {d}"
                for d in _differences(state, fold.moves, row)
            ]
    differences += [f"contact {contact} is stored, but has no touchpoint" for contact, _ in stored]
    return {
        "equal": not differences,
        "touchpoints": folded.touchpoints,
        "contacts": sum(1 for who in folded.folds if who[1] != ACCOUNT),
        "accounts": sum(1 for who in folded.folds if who[1] == ACCOUNT),
        "transitions": transitions,
        "differences": differences[:SHOWN],
    }


def _contact(
    folded: ReplayedHistory,
    who: SubjectKey,
    contacts: dict[Identifiers, str],
    differences: list[str],
) -> str:
    """Return the stored contact that has exactly the person's identifiers; that nobody has is a difference."""
    names: Identifiers = folded.people.list_identifiers(who)
    contact = contacts.pop(names, None)
    if contact is None:
        differences.append(f"nobody is stored with exactly the identifiers {sorted(names)[:SHOWN]}")
    return contact or ""


def _differences(state: bytes, moves: list[Move], row: StoredRows) -> list[str]:
    found = []
    if state != row.state:
        found.append("no state is stored" if not row.state else "the stored state has other bytes")
    if [m.encode() for m in moves] != row.moves:
        found.append(
            f"{len(moves)} moves folded, {len(row.moves)} stored; {_first_difference(moves, row.moves)}"
        )
    if moves and (row.published is None or row.published.position != moves[-1].after):
        found.append("the last published position is not the pure one")
    return found


def _first_difference(moves: list[Move], stored: list[bytes]) -> str:
    for number, move in enumerate(moves):
        if number >= len(stored):
            return f"the first one missing is {move}"
        if move.encode() != stored[number]:
            return f"the first that differs is {move}, stored {decode_move(stored[number])}"
    return f"the first one too many is {decode_move(stored[len(moves)])}"
