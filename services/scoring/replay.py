"""The proof of the one rule: fold every stored touchpoint in one process, and compare with what is stored.

Two passes over one snapshot: the claims give the devices' runs, then every touchpoint in key order goes to its subject's
fold. What is compared are the pure rows: the folded state and the open transitions, byte for byte, contacts matched by
their set of identifiers.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.db.connection import Connection
from services.scoring.domain.cycle import Cycle
from services.scoring.domain.fold import advance, apply
from services.scoring.domain.identity import Key, Run, runs_of, subject
from services.scoring.domain.move import Move, decode_move
from services.scoring.domain.state import State
from services.scoring.repository import replay
from services.scoring.repository.replay import Identifiers, StoredCycle

SHOWN = 20
Subject = tuple[str, str, str]


class Folded(msgspec.Struct):
    """A subject folded again, in one cycle."""

    state: State
    moves: list[Move]


class Replayed(msgspec.Struct):
    """Everything folded again."""

    touchpoints: int
    folds: dict[Subject, dict[str, Folded]]
    identifiers: dict[Subject, Identifiers]


async def replay_all(connection: Connection, cycles: Sequence[Cycle]) -> Replayed:
    """Fold every stored touchpoint from nothing."""
    claims: dict[tuple[str, str], list[tuple[Key, str]]] = {}
    async for device, key, user_id in replay.claims(connection):
        claims.setdefault(device, []).append((key, user_id))
    runs = {device: runs_of(found) for device, found in claims.items()}
    folded = Replayed(0, {}, {})
    async for touchpoint in replay.touchpoints(connection):
        folded.touchpoints += 1
        device = (touchpoint.workspace, touchpoint.anonymous_id or "")
        who = (touchpoint.workspace, *subject(touchpoint, runs.get(device, [])))
        if who not in folded.folds:
            folded.folds[who] = {c.engine.name: Folded(c.engine.fresh(), []) for c in cycles}
        for cycle in cycles:
            fold = folded.folds[who][cycle.engine.name]
            apply(cycle.engine, fold.state, cycle.classifier.occurrence(touchpoint), fold.moves)
    folded.identifiers = _identifiers(folded.folds, runs)
    return folded


def _identifiers(folds: dict[Subject, Any], runs: dict[tuple[str, str], list[Run]]) -> dict[Subject, Identifiers]:
    devices: dict[Subject, set[Subject]] = {}
    for (workspace, anonymous_id), found in runs.items():
        for run in found:
            user = (workspace, "user_id", run.user_id)
            devices.setdefault(user, set()).add((workspace, "anonymous_id", anonymous_id))
    return {who: frozenset({who, *devices.get(who, ())}) for who in folds}


async def compare(connection: Connection, cycles: Sequence[Cycle], frontier: int) -> dict[str, Any]:
    """Compare a fresh fold, advanced to `frontier`, with the stored pure rows; `connection` is in one snapshot."""
    folded = await replay_all(connection, cycles)
    stored = await replay.pure_rows(connection)
    contacts = {names: contact for contact, names in (await replay.identifiers(connection)).items()}
    differences: list[str] = []
    transitions = 0
    for who, by_cycle in folded.folds.items():
        contact = contacts.pop(folded.identifiers[who], None)
        for cycle in cycles:
            fold = by_cycle[cycle.engine.name]
            state = fold.state.encode()
            advance(cycle.engine, fold.state, frontier, fold.moves)
            transitions += len(fold.moves)
            row = stored.pop((contact or "", cycle.engine.name), StoredCycle())
            differences += [
                f"{':'.join(who)} in {cycle.engine.name}: {d}" for d in _differences(state, fold.moves, row)
            ]
    differences += [f"contact {contact} is stored, but has no touchpoint" for contact, _ in stored]
    return {
        "equal": not differences,
        "touchpoints": folded.touchpoints,
        "contacts": len(folded.folds),
        "transitions": transitions,
        "differences": differences[:SHOWN],
    }


def _differences(state: bytes, moves: list[Move], row: StoredCycle) -> list[str]:
    found = []
    if state != row.state:
        found.append("no state is stored" if not row.state else "the stored state has other bytes")
    if [m.encode() for m in moves] != row.moves:
        found.append(f"{len(moves)} moves folded, {len(row.moves)} stored; {_first_difference(moves, row.moves)}")
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
