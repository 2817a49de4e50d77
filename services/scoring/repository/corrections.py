"""Corrections: rows that are appended and never changed, and their effect on touchpoints."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import cast

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import from_datetime
from services.scoring.domain.correction import Kind, ManualStage, TouchpointVerdict
from services.scoring.domain.identity import Identifier, Key, Link


class CorrectionRow(msgspec.Struct, frozen=True):
    """A correction as recorded; `about` names its touchpoint, pair of identifiers or stage."""

    number: int
    kind: str
    about: str
    author: str
    note: str
    recorded_at: int


class _StageDetail(msgspec.Struct):
    """The stored detail of a manual stage."""

    cycle: str
    places: dict[str, str]
    until: int


_decode_detail = msgspec.json.Decoder(_StageDetail).decode
_encode_detail = msgspec.json.Encoder().encode


async def get_verdicts(
    connection: Connection, contacts: Iterable[ContactId]
) -> dict[ContactId, dict[Key, TouchpointVerdict]]:
    """Return {contact: {touchpoint key: verdict}} of the contacts' corrected touchpoints."""
    verdicts: dict[ContactId, dict[Key, TouchpointVerdict]] = {}
    for contact, at, source, message_id, kind in await connection.fetch(
        "SELECT t.contact_id, c.occurred_at, c.source, c.message_id, c.kind "
        "FROM scoring.corrections c "
        "JOIN scoring.touchpoints t USING (workspace, occurred_at, source, message_id) "
        "WHERE c.kind IN ('bot', 'human', 'exclude', 'include') "
        "AND t.contact_id = ANY($1::text[]) ORDER BY c.id",
        sorted(contacts),
    ):
        verdicts.setdefault(contact, {}).setdefault(
            (at, source, message_id), TouchpointVerdict()
        ).apply(cast("Kind", kind))
    return verdicts


async def get_manual_stages(
    connection: Connection, contacts: Iterable[ContactId]
) -> dict[ContactId, list[ManualStage]]:
    """Return the manual stages of each contact that has any, in key order."""
    stages: dict[ContactId, list[ManualStage]] = {}
    for contact, number, at, detail, recorded_at in await connection.fetch(
        "SELECT i.contact_id, c.id, c.occurred_at, c.detail, c.recorded_at "
        "FROM scoring.corrections c JOIN scoring.identifiers i USING (workspace, type, value) "
        "WHERE c.kind = 'stage' AND i.contact_id = ANY($1::text[]) "
        "ORDER BY c.occurred_at, c.id",
        sorted(contacts),
    ):
        stages.setdefault(contact, []).append(
            manual_stage_from_row(number, at, recorded_at, detail)
        )
    return stages


def manual_stage_from_row(
    number: int, occurred_at: int, recorded_at: datetime, detail: str
) -> ManualStage:
    """Return the manual stage that a correction row stores."""
    stage = _decode_detail(detail)
    return ManualStage(
        number, occurred_at, from_datetime(recorded_at), stage.cycle, stage.places, stage.until
    )


async def list_about_contact(connection: Connection, contact: ContactId) -> list[CorrectionRow]:
    """Return the corrections about a contact's identifiers and touchpoints, oldest first."""
    rows = await connection.fetch(
        "SELECT c.id, c.kind, CASE WHEN c.other_type IS NOT NULL "
        "THEN c.type || ':' || c.value || ' and ' || c.other_type || ':' || c.other_value "
        "WHEN c.kind = 'stage' THEN c.detail ELSE c.source || ':' || c.message_id END, "
        "c.author, c.note, c.recorded_at FROM scoring.corrections c "
        "WHERE EXISTS (SELECT FROM scoring.identifiers i WHERE i.contact_id = $1 "
        "AND i.workspace = c.workspace "
        "AND (i.type, i.value) IN ((c.type, c.value), (c.other_type, c.other_value))) "
        "OR EXISTS (SELECT FROM scoring.touchpoints t WHERE t.contact_id = $1 "
        "AND (t.workspace, t.occurred_at, t.source, t.message_id) "
        "= (c.workspace, c.occurred_at, c.source, c.message_id)) ORDER BY c.id",
        contact,
    )
    return [CorrectionRow(r[0], r[1], r[2], r[3], r[4], from_datetime(r[5])) for r in rows]


async def insert_touchpoint_corrections(
    connection: Connection,
    workspace: WorkspaceId,
    kind: Kind,
    keys: Sequence[Key],
    author: str,
    note: str,
) -> None:
    """Append one correction per touchpoint."""
    await connection.execute(
        "INSERT INTO scoring.corrections "
        "(workspace, kind, occurred_at, source, message_id, author, note) "
        "SELECT $1, $2, w.at, w.source, w.message_id, $6, $7 "
        "FROM unnest($3::bigint[], $4::text[], $5::text[]) AS w (at, source, message_id)",
        workspace,
        kind,
        [key[0] for key in keys],
        [key[1] for key in keys],
        [key[2] for key in keys],
        author,
        note,
    )


async def insert_link_correction(
    connection: Connection,
    workspace: WorkspaceId,
    kind: Kind,
    link: Link,
    at: int,
    author: str,
    note: str,
) -> None:
    """Append a `link` or `unlink` correction about a pair of identifiers."""
    (kind_a, value_a), (kind_b, value_b) = link
    await connection.execute(
        "INSERT INTO scoring.corrections "
        "(workspace, kind, occurred_at, type, value, other_type, other_value, author, note) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        workspace, kind, at, kind_a, value_a, kind_b, value_b, author, note,
    )  # fmt: skip


async def insert_stage_correction(
    connection: Connection,
    workspace: WorkspaceId,
    identifier: Identifier,
    manual: ManualStage,
    author: str,
    note: str,
) -> int:
    """Append a manual stage for an identifier; return its number, which is part of its key."""
    detail = _encode_detail(_StageDetail(manual.cycle, manual.places, manual.until)).decode()
    number: int = await connection.fetchval(
        "INSERT INTO scoring.corrections "
        "(workspace, kind, occurred_at, source, type, value, detail, author, note) "
        "VALUES ($1, 'stage', $2, 'correction', $3, $4, $5, $6, $7) RETURNING id",
        workspace, manual.occurred_at, *identifier, detail, author, note,
    )  # fmt: skip
    return number
