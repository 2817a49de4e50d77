"""Scoring's views of contacts and cycles."""

import json
from collections.abc import Sequence
from typing import Any

from libs.common.db import fold_columns
from libs.common.db.connection import Connection
from services.orchestrator.domain.contact_facts import CycleFacts, DecayingScore
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies, CycleVocabulary


async def get_traits(
    connection: Connection, ids: Sequence[str]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return (workspace, traits) of contacts."""
    rows = await connection.fetch(
        "SELECT contact_id, workspace, traits::text FROM scoring.contact_profiles "
        "WHERE contact_id = ANY($1::text[])",
        ids,
    )
    return {r[0]: (r[1], json.loads(r[2]) if r[2] else {}) for r in rows}


async def get_identifiers(
    connection: Connection, ids: Sequence[str]
) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """Return one identifier of each type by contact, and all verified addresses by contact."""
    rows = await connection.fetch(
        "SELECT contact_id, type, min(value), CASE WHEN type = 'email' THEN array_agg(value) END "
        "FROM scoring.contact_identifiers WHERE contact_id = ANY($1::text[]) "
        "GROUP BY contact_id, type",
        ids,
    )
    identifiers: dict[str, dict[str, str]] = {}
    verified: dict[str, list[str]] = {}
    for contact, kind, value, addresses in rows:
        identifiers.setdefault(contact, {})[kind] = value
        if addresses:
            verified[contact] = addresses
    return identifiers, verified


async def get_standings(
    connection: Connection, ids: Sequence[str], vocabulary: CycleVocabularies
) -> tuple[dict[str, dict[str, CycleFacts]], dict[str, int]]:
    """Return the standings in live cycles, and the last act (µs UTC), by contact."""
    rows = await connection.fetch(
        "SELECT contact_id, cycle, stage, dormant, published, state FROM scoring.contact_standings "
        "WHERE contact_id = ANY($1::text[])",
        ids,
    )
    standings: dict[str, dict[str, CycleFacts]] = {}
    last_acts: dict[str, int] = {}
    for contact, cycle, stage, dormant, published, state in rows:
        names = vocabulary.cycles.get(cycle)
        if names is None:
            continue
        values, instants, last_act = fold_columns.decode_scores(state)
        standings.setdefault(contact, {})[cycle] = _to_cycle_facts(
            names, stage, dormant, published, values, instants
        )
        if last_act is not None:
            last_acts[contact] = max(last_act, last_acts.get(contact, 0))
    return standings, last_acts


def _to_cycle_facts(
    names: CycleVocabulary,
    stage: str,
    dormant: bool,
    published: bytes,
    values: Sequence[float],
    instants: Sequence[int],
) -> CycleFacts:
    scores = {
        name: DecayingScore(value, at, half_life)
        for (name, half_life), value, at in zip(
            names.half_lives.items(), values, instants, strict=False
        )
    }
    axes = dict(zip(names.ladders, fold_columns.decode_axis_places(published), strict=False))
    return CycleFacts(stage, dormant, axes, scores, names.ladders, names.rings.get(stage, 0))


async def list_live_cycles(connection: Connection) -> list[tuple[str, str, Any]]:
    """Return the live cycles: (name, version, specification as text)."""
    rows = await connection.fetch(
        "SELECT cycle, version, spec FROM scoring.live_cycles ORDER BY cycle"
    )
    return [(r[0], r[1], r[2]) for r in rows]


async def get_cycles_mark(connection: Connection) -> str:
    """Return the names and versions of the live cycles as one text."""
    mark: str = await connection.fetchval(
        "SELECT coalesce(string_agg(cycle || '@' || version, ',' ORDER BY cycle), '') "
        "FROM scoring.live_cycles"
    )
    return mark
