"""Contacts at the moment of a decision: locked, so that one decision at a time is made about each, and what is known of them.

Everything that is decided about a contact is decided under its row in `people`, taken in order of the ids: then no two
processes enrol, step or send for one contact at once.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from libs.common.db import fold_columns
from libs.common.db.connection import Connection
from services.orchestrator.domain.ad_audience import hash_email
from services.orchestrator.domain.contact_facts import (
    MAX_INSTANTS,
    ContactFacts,
    CycleFacts,
    DecayingScore,
)
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies, CycleVocabulary
from services.orchestrator.repository import consents

_read = msgspec.json.decode


async def get_survivors(connection: Connection, contacts: Collection[str]) -> dict[str, str]:
    """Return, for each contact, the one that it was merged into, or itself."""
    rows = await connection.fetch(
        "SELECT contact_id, merged_into FROM scoring.contact_profiles "
        "WHERE contact_id = ANY($1::text[]) AND merged_into IS NOT NULL",
        list(contacts),
    )
    merged = {r[0]: r[1] for r in rows}
    return {contact: merged.get(contact, contact) for contact in contacts}


async def lock_contacts(
    connection: Connection, contacts: Collection[str], *, free: int | None = None
) -> set[str]:
    """Lock contacts in order until the transaction ends; with `free` at most so many, of those that nobody else holds."""
    wanted = sorted(contacts)
    await connection.execute(
        "INSERT INTO orchestrator.people (contact_id) SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING",
        wanted,
    )
    rows = await connection.fetch(
        "SELECT contact_id FROM orchestrator.people WHERE contact_id = ANY($1::text[]) ORDER BY contact_id LIMIT $2 "
        "FOR UPDATE" + ("" if free is None else " SKIP LOCKED"),
        wanted,
        free,
    )
    return {r[0] for r in rows}


async def get_facts(
    connection: Connection,
    contacts: Collection[str],
    vocabulary: CycleVocabularies,
    *,
    asked: bool = False,
) -> dict[str, ContactFacts]:
    """Return what is known of contacts, by the id that was asked for; a merged one has its survivor's facts.

    With `asked`, or where a play asks for it: also when anybody was in touch, whether something is planned, what is compelling.
    """
    to = await get_survivors(connection, contacts)
    ids = sorted(set(to.values()))
    relatives = await get_aliases(connection, ids)
    everybody = list(relatives)
    traits = await _traits(connection, ids)
    standings, acts = await _standings(connection, ids, vocabulary)
    signals = await _signals(connection, everybody, relatives)
    allowed = await _consents(connection, everybody, relatives)
    suppressed = await _suppressions(connection, everybody, relatives)
    addresses = {
        one: (workspace, hash_email(found.get("email")))
        for one, (workspace, found) in traits.items()
    }
    no_more = await consents.get_address_suppressions(connection, set(addresses.values()))
    known_by, verified = await _identifiers(connection, ids)
    seen = await _exposures(connection, everybody, relatives)
    more = (
        await _more(connection, everybody, relatives)
        if asked or vocabulary.needs_costly_facts
        else _More()
    )
    found = {
        one: ContactFacts(
            one,
            traits.get(one, ("", {}))[1],
            standings.get(one, {}),
            signals.get(one, {}),
            acts.get(one),
            allowed.get(one, {}),
            _stricter(suppressed.get(one, {}), no_more.get(addresses.get(one, ("", "")))),
            known_by.get(one, {}).get("user_id"),
            known_by.get(one, {}).get("anonymous_id"),
            {
                n.partition(":")[2]: v
                for n, v in known_by.get(one, {}).items()
                if n.startswith("external:")
            },
            seen.get(one, {}),
            frozenset(verified.get(one, ())),
            more.touched.get(one),
            one in more.planned,
            frozenset(more.events.get(one, ())),
        )
        for one in ids
    }
    return {contact: found[to[contact]] for contact in contacts}


def _stricter(suppressed: Mapping[str, str], of_address: str | None) -> Mapping[str, str]:
    """Return why channels are suppressed, the mails' also by the address."""
    return {"email": of_address, **suppressed} if of_address else suppressed


async def get_profiles(
    connection: Connection, ids: Sequence[str]
) -> dict[str, tuple[dict[str, Any], str | None]]:
    """Return (traits, user id) of contacts."""
    traits, (known_by, _) = await _traits(connection, ids), await _identifiers(connection, ids)
    return {
        one: (traits.get(one, ("", {}))[1], known_by.get(one, {}).get("user_id")) for one in ids
    }


async def _traits(
    connection: Connection, ids: Sequence[str]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return (workspace, traits) of contacts."""
    rows = await connection.fetch(
        "SELECT contact_id, workspace, traits::text FROM scoring.contact_profiles WHERE contact_id = ANY($1::text[])",
        ids,
    )
    return {r[0]: (r[1], json.loads(r[2]) if r[2] else {}) for r in rows}


async def get_aliases(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    """Return the survivor of each id that leads to one of these: what was said under a merged id holds too."""
    rows = await connection.fetch(
        "SELECT contact_id, merged_into FROM scoring.contact_profiles WHERE merged_into = ANY($1::text[])",
        list(ids),
    )
    return {**{one: one for one in ids}, **{r[0]: r[1] for r in rows}}


async def _standings(
    connection: Connection, ids: Sequence[str], vocabulary: CycleVocabularies
) -> tuple[dict[str, dict[str, CycleFacts]], dict[str, int]]:
    rows = await connection.fetch(
        "SELECT contact_id, cycle, stage, dormant, published, state FROM scoring.contact_standings "
        "WHERE contact_id = ANY($1::text[])",
        ids,
    )
    found: dict[str, dict[str, CycleFacts]] = {}
    acts: dict[str, int] = {}
    for contact, cycle, stage, dormant, published, state in rows:
        words = vocabulary.cycles.get(cycle)
        if words is None:
            continue
        values, instants, last_act = fold_columns.decode_scores(state)
        found.setdefault(contact, {})[cycle] = _standing(
            words, stage, dormant, published, values, instants
        )
        if last_act is not None:
            acts[contact] = max(last_act, acts.get(contact, 0))
    return found, acts


def _standing(
    words: CycleVocabulary,
    stage: str,
    dormant: bool,
    published: bytes,
    values: Sequence[float],
    instants: Sequence[int],
) -> CycleFacts:
    scores = {
        name: DecayingScore(value, at, half_life)
        for (name, half_life), value, at in zip(
            words.half_lives.items(), values, instants, strict=False
        )
    }
    axes = dict(zip(words.ladders, fold_columns.decode_axis_places(published), strict=False))
    return CycleFacts(stage, dormant, axes, scores, words.ladders, words.rings.get(stage, 0))


async def _signals(
    connection: Connection, everybody: Sequence[str], family: Mapping[str, str]
) -> dict[str, dict[str, list[int]]]:
    rows = await connection.fetch(
        "SELECT contact_id, signal, occurred_at FROM ("
        "SELECT contact_id, signal, occurred_at, row_number() OVER (PARTITION BY contact_id, signal ORDER BY occurred_at DESC) "
        "AS place FROM orchestrator.signals_seen WHERE contact_id = ANY($1::text[])) s WHERE place <= $2 ORDER BY occurred_at",
        everybody,
        MAX_INSTANTS,
    )
    found: dict[str, dict[str, list[int]]] = {}
    for contact, signal, occurred_at in rows:
        found.setdefault(family[contact], {}).setdefault(signal, []).append(occurred_at)
    return found


async def _consents(
    connection: Connection, everybody: Sequence[str], family: Mapping[str, str]
) -> dict[str, dict[str, bool]]:
    rows = await connection.fetch(
        "SELECT contact_id, purpose, granted FROM orchestrator.consents WHERE contact_id = ANY($1::text[])",
        everybody,
    )
    found: dict[str, dict[str, bool]] = {}
    for contact, purpose, granted in rows:  # of two consents the stricter
        mine = found.setdefault(family[contact], {})
        mine[purpose] = mine.get(purpose, True) and granted
    return found


async def _suppressions(
    connection: Connection, everybody: Sequence[str], family: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    rows = await connection.fetch(
        "SELECT contact_id, channel, reason FROM orchestrator.suppressions WHERE contact_id = ANY($1::text[]) "
        "ORDER BY reason",
        everybody,
    )
    found: dict[str, dict[str, str]] = {}
    for contact, channel, reason in rows:
        found.setdefault(family[contact], {}).setdefault(channel, reason)
    return found


async def _exposures(
    connection: Connection, everybody: Sequence[str], family: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    rows = await connection.fetch(
        "SELECT contact_id, content, last_at FROM orchestrator.exposures WHERE contact_id = ANY($1::text[])",
        everybody,
    )
    found: dict[str, dict[str, int]] = {}
    for contact, content, last_at in rows:
        mine = found.setdefault(family[contact], {})
        mine[content] = max(last_at, mine.get(content, 0))
    return found


class _More(msgspec.Struct):
    """What is gathered only where a condition asks for it, by survivor."""

    touched: dict[str, int] = {}
    planned: set[str] = set()
    events: dict[str, set[str]] = {}


async def _more(
    connection: Connection, everybody: Sequence[str], family: Mapping[str, str]
) -> _More:
    found = _More()
    for contact, last_at in await connection.fetch(
        "SELECT contact_id, last_at FROM scoring.contact_touches WHERE contact_id = ANY($1::text[]) AND last_at IS NOT NULL",
        everybody,
    ):
        found.touched[family[contact]] = max(last_at, found.touched.get(family[contact], 0))
    planned = await connection.fetch(
        "SELECT contact_id FROM orchestrator.enrollments WHERE contact_id = ANY($1::text[]) AND status = 'active' "
        "UNION SELECT contact_id FROM orchestrator.actions WHERE contact_id = ANY($1::text[]) "
        # What only tells colleagues, or an advertiser, is no step with the contact.
        "AND status IN ('pending', 'held', 'sending') AND channel IN ('email', 'crm_task', 'kafka')",
        everybody,
    )
    found.planned = {family[r[0]] for r in planned}
    for contact, kind in await connection.fetch(
        "SELECT subject, kind FROM scoring.open_events WHERE subject = ANY($1::text[]) UNION "
        "SELECT m.contact_id, e.kind FROM scoring.account_members m JOIN scoring.open_events e ON e.subject = m.account_id "
        "WHERE m.contact_id = ANY($1::text[])",
        everybody,
    ):
        found.events.setdefault(family[contact], set()).add(kind)
    return found


async def _identifiers(
    connection: Connection, ids: Sequence[str]
) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """Return one identifier of each kind, and all verified addresses."""
    rows = await connection.fetch(
        "SELECT contact_id, type, min(value), CASE WHEN type = 'email' THEN array_agg(value) END "
        "FROM scoring.contact_identifiers WHERE contact_id = ANY($1::text[]) GROUP BY contact_id, type",
        ids,
    )
    found: dict[str, dict[str, str]] = {}
    verified: dict[str, list[str]] = {}
    for contact, kind, value, addresses in rows:
        found.setdefault(contact, {})[kind] = value
        if addresses:
            verified[contact] = addresses
    return found, verified


async def list_live_cycles(connection: Connection) -> list[tuple[str, str, Any]]:
    """Return the live cycles: (name, version, specification as text)."""
    rows = await connection.fetch(
        "SELECT cycle, version, spec FROM scoring.live_cycles ORDER BY cycle"
    )
    return [(r[0], r[1], r[2]) for r in rows]


async def get_cycles_mark(connection: Connection) -> str:
    """Return what changes when another version of a cycle is live."""
    found: str = await connection.fetchval(
        "SELECT coalesce(string_agg(cycle || '@' || version, ',' ORDER BY cycle), '') FROM scoring.live_cycles"
    )
    return found


async def insert_signals(
    connection: Connection, rows: Sequence[tuple[str, str, int, str]]
) -> set[str]:
    """Note (contact, signal, occurred_at, id) of what was seen; return the ids of those that nobody had noted yet."""
    if not rows:
        return set()
    new = await connection.fetch(
        "INSERT INTO orchestrator.signals_seen SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) "
        "ON CONFLICT DO NOTHING RETURNING signal_id",
        *map(list, zip(*rows, strict=True)),
    )
    return {r[0] for r in new}
