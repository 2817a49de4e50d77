"""Replay: fold every stored touchpoint again in one process, and compare with the stored rows.

This checks the one rule, that state is a pure function of the touchpoints. It makes two passes over
one database snapshot: the first resolves identities from claims, links and corrections, the second
folds every touchpoint, in key order, into its contact. Compared byte for byte are the pure rows,
which are the fold state and the open transitions; contacts are matched by their set of identifiers.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from libs.common.messages import Touchpoint
from services.scoring.domain.account_membership import MembershipTracker
from services.scoring.domain.compiled_cycle import CompiledCycle
from services.scoring.domain.correction import ManualStage, apply_verdicts, manual_stage_events
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold import advance, apply_event
from services.scoring.domain.fold_state import FoldState
from services.scoring.domain.identity_resolution import IdentityResolver, SubjectKey
from services.scoring.domain.move import Move, decode_move
from services.scoring.repository import replay_source
from services.scoring.repository.fold_rows import PublicationKey
from services.scoring.repository.replay_source import Identifiers, StoredRows

SHOWN = 20
"""Most differences, or identifiers, that a report lists."""
ACCOUNT = "account"
"""The identifier type in an account's subject key."""


class ReplayedFold(msgspec.Struct):
    """One subject's fresh fold in one cycle: its state and all its moves."""

    state: FoldState
    moves: list[Move]


class ReplayedHistory(msgspec.Struct):
    """The fresh folds of every subject.

    `touchpoints` counts those read; `folds` is {subject: {cycle@version: fold}}.
    """

    touchpoints: int
    folds: dict[SubjectKey, dict[str, ReplayedFold]]
    identities: IdentityResolver


async def replay_all(connection: Connection, cycles: Sequence[ActiveCycle]) -> ReplayedHistory:
    """Fold every stored touchpoint from the first one on, for contacts and for accounts."""
    verdicts = await replay_source.get_verdicts(connection)
    identities = IdentityResolver(await replay_source.list_manual_links(connection))
    async for touchpoint in replay_source.iter_touchpoints(connection):
        for kept in apply_verdicts([touchpoint], verdicts.get(touchpoint.workspace, {})):
            identities.add_touchpoint(kept)
    identities.resolve()
    stored_stages = await replay_source.list_manual_stages(connection)
    manual_stages = sorted(
        (
            (identities.subject_of_identifier(workspace, name), stage)
            for workspace, name, stage in stored_stages
        ),
        key=lambda entry: entry[1].key,
        reverse=True,
    )
    history, memberships = ReplayedHistory(0, {}, identities), MembershipTracker({})
    contact_cycles = [cycle for cycle in cycles if not cycle.is_account_cycle]
    account_cycles = [cycle for cycle in cycles if cycle.is_account_cycle]
    async for touchpoint in replay_source.iter_touchpoints(connection):
        while manual_stages and manual_stages[-1][1].key < touchpoint.key:
            _fold_manual_stage(history, contact_cycles, *manual_stages.pop())
        history.touchpoints += 1
        for kept in apply_verdicts([touchpoint], verdicts.get(touchpoint.workspace, {})):
            subject = identities.subject_of_touchpoint(kept)
            _fold_touchpoint(history, contact_cycles, subject, kept)
            for account in (
                sorted(memberships.add_touchpoint(":".join(subject), kept))
                if account_cycles
                else ()
            ):
                account_subject = SubjectKey(kept.workspace, ACCOUNT, account)
                _fold_touchpoint(history, account_cycles, account_subject, kept)
    while manual_stages:
        _fold_manual_stage(history, contact_cycles, *manual_stages.pop())
    return history


def _fold_touchpoint(
    history: ReplayedHistory,
    cycles: Sequence[ActiveCycle],
    subject: SubjectKey,
    touchpoint: Touchpoint,
) -> None:
    folds = _get_or_create_folds(history, cycles, subject)
    for cycle in cycles:
        fold = folds[cycle.engine.fold]
        apply_event(
            cycle.engine, fold.state, cycle.classifier.to_fold_event(touchpoint), fold.moves
        )


def _get_or_create_folds(
    history: ReplayedHistory, cycles: Sequence[ActiveCycle], subject: SubjectKey
) -> dict[str, ReplayedFold]:
    if subject not in history.folds:
        history.folds[subject] = {
            c.engine.fold: ReplayedFold(c.engine.initial_state(), []) for c in cycles
        }
    return history.folds[subject]


def _fold_manual_stage(
    history: ReplayedHistory,
    cycles: Sequence[ActiveCycle],
    subject: SubjectKey,
    manual_stage: ManualStage,
) -> None:
    for cycle in cycles:
        for event in manual_stage_events(cycle.engine, [manual_stage]):
            fold = _get_or_create_folds(history, cycles, subject)[cycle.engine.fold]
            apply_event(cycle.engine, fold.state, event, fold.moves)


async def compare_with_stored(
    connection: Connection, cycles: Sequence[ActiveCycle], frontier: int
) -> dict[str, Any]:
    """Compare fresh folds, advanced to `frontier` (µs UTC), with the stored pure rows.

    The connection's transaction must be one snapshot. The report has `equal`, the counts of
    touchpoints, contacts, accounts and transitions, and the first differences as text.
    """
    history = await replay_all(connection, cycles)
    stored = await replay_source.get_pure_rows(
        connection, {c.engine.fold: c.engine.name for c in cycles}
    )
    contacts = {
        identifiers: contact
        for contact, identifiers in (await replay_source.get_identifiers(connection)).items()
    }
    differences: list[str] = []
    transitions = 0
    for subject, by_fold in history.folds.items():
        contact = (
            ContactId(subject.value)
            if subject.type == ACCOUNT
            else _stored_contact(history, subject, contacts, differences)
        )
        for cycle in cycles:
            fold = by_fold.get(cycle.engine.fold)
            if fold is None or fold.state.is_empty:
                continue
            state = fold.state.encode()
            advance(cycle.engine, fold.state, frontier, fold.moves)
            transitions += len(fold.moves)
            rows = stored.pop(PublicationKey(contact, cycle.engine.name), StoredRows())
            differences += [
                f"{':'.join(subject)} in {cycle.engine.name}: {difference}"
                for difference in _differences(cycle.engine, state, fold.moves, rows)
            ]
    differences += [f"contact {contact} is stored, but has no touchpoint" for contact, _ in stored]
    return {
        "equal": not differences,
        "touchpoints": history.touchpoints,
        "contacts": sum(1 for subject in history.folds if subject.type != ACCOUNT),
        "accounts": sum(1 for subject in history.folds if subject.type == ACCOUNT),
        "transitions": transitions,
        "differences": differences[:SHOWN],
    }


def _stored_contact(
    history: ReplayedHistory,
    subject: SubjectKey,
    contacts: dict[Identifiers, ContactId],
    differences: list[str],
) -> ContactId:
    """Return the stored contact with exactly the subject's identifiers; none is a difference."""
    identifiers: Identifiers = history.identities.list_identifiers(subject)
    contact = contacts.pop(identifiers, None)
    if contact is None:
        differences.append(
            f"no stored contact has exactly the identifiers {sorted(identifiers)[:SHOWN]}"
        )
    return contact or ContactId("")


def _differences(
    engine: CompiledCycle, state: bytes, moves: list[Move], rows: StoredRows
) -> list[str]:
    differences = []
    if state != _current_encoding(engine, rows.state):
        differences.append(
            "the stored state has other bytes" if rows.state else "no state is stored"
        )
    if [m.encode() for m in moves] != rows.moves:
        first = _first_difference(moves, rows.moves)
        differences.append(f"{len(moves)} moves folded, {len(rows.moves)} stored; {first}")
    if moves and (rows.published is None or rows.published.position != moves[-1].after):
        differences.append("the last published position is not the pure one")
    return differences


def _current_encoding(engine: CompiledCycle, state: bytes) -> bytes:
    """Return a stored state as this version encodes it: an earlier one used other bytes."""
    try:
        return engine.decode_state(state).encode() if state else b""
    except (msgspec.DecodeError, IndexError, TypeError):
        return state


def _first_difference(moves: list[Move], stored: list[bytes]) -> str:
    for number, move in enumerate(moves):
        if number >= len(stored):
            return f"the first missing one is {move}"
        if move.encode() != stored[number]:
            return f"the first different one is {move}, stored {decode_move(stored[number])}"
    return f"the first surplus one is {decode_move(stored[len(moves)])}"
