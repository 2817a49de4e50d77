"""Published-message log: published messages in order, for consumers that do not read the topic.

A relay moves acknowledged messages from the outbox to the log in a single statement. One relay
writes a shard at a time, so a shard's positions become visible in order, and a cursor (the last
position read in each shard) misses no message; there is no order across shards. Messages with the
same key are in the same shard, so a contact's messages are in order.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg
import msgspec

from libs.common.db.connection import Connection
from libs.common.db.outbox import message_from_row
from libs.common.errors import ConfigurationError
from libs.common.ids import WorkspaceId
from libs.common.messages.envelope import TRACEPARENT

LOG_CHANNEL = "scoring_log"
"""Notified when messages have been published."""
Cursor = dict[int, int]
"""{shard: last position read}"""
_MAX_SHARDS = 10_000


class LogPosition(NamedTuple):
    """Position of a message in the log of published messages."""

    shard: int
    position: int


class PublishedMessage(msgspec.Struct, frozen=True):
    """Published message; `kind` is its event type; a repeat has the same `message_id`."""

    shard: int
    position: int
    key: str
    kind: str
    message_id: str
    value: bytes
    trace: bytes | None = None


def encode_cursor(cursor: Cursor) -> str:
    """Encode a cursor for clients."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """Decode a client's cursor. Raises ConfigurationError for an invalid text."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.msgpack.decode(raw, type=dict[int, int])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        cursor = {-1: -1}  # invalid
    if any(
        not 0 <= shard < _MAX_SHARDS or not 0 <= position < 1 << 62
        for shard, position in cursor.items()
    ):
        raise ConfigurationError(
            "the cursor is invalid: send the cursor of the last page, "
            "or none to start at the beginning"
        )
    return cursor


async def list_after(
    connection: Connection, workspace: WorkspaceId, cursor: Cursor, shards: int, limit: int
) -> tuple[list[PublishedMessage], Cursor]:
    """Return at most `limit` of a workspace's messages after the cursor, and the next cursor.

    Messages of each shard are in order.
    """
    positions = {**dict.fromkeys(range(shards), 0), **cursor}
    rows = await connection.fetch(
        "SELECT page.* FROM unnest($1::int[], $2::bigint[]) AS start (shard, position), LATERAL ("
        "SELECT m.shard, m.position, m.topic, m.key, m.headers, m.value "
        "FROM scoring.published_messages m "
        "WHERE m.workspace = $4 AND m.shard = start.shard AND m.position > start.position "
        "ORDER BY m.position LIMIT $3) page ORDER BY page.position LIMIT $3",
        list(positions),
        list(positions.values()),
        limit,
        workspace,
    )
    next_cursor = {**cursor, **{r["shard"]: r["position"] for r in rows}}
    return [_published_message(r) for r in rows], next_cursor


async def get_by_position(
    connection: Connection, workspace: WorkspaceId, positions: Iterable[LogPosition]
) -> dict[LogPosition, PublishedMessage]:
    """Return a workspace's messages at (shard, position)."""
    keys = list(positions)
    rows = await connection.fetch(
        "SELECT m.shard, m.position, m.topic, m.key, m.headers, m.value "
        "FROM scoring.published_messages m "
        "JOIN unnest($1::int[], $2::bigint[]) AS w (shard, position) USING (shard, position) "
        "WHERE m.workspace = $3",
        [shard for shard, _ in keys],
        [position for _, position in keys],
        workspace,
    )
    return {LogPosition(r["shard"], r["position"]): _published_message(r) for r in rows}


async def get_end_cursor(connection: Connection, workspace: WorkspaceId, shards: int) -> Cursor:
    """Return the cursor after the last message of a workspace."""
    rows = await connection.fetch(
        "SELECT shard, (SELECT max(position) FROM scoring.published_messages m "
        "WHERE m.workspace = $2 AND m.shard = s.shard) FROM unnest($1::int[]) AS s (shard)",
        list(range(shards)),
        workspace,
    )
    return {shard: position for shard, position in rows if position is not None}


async def get_cursor_before(
    connection: Connection, workspace: WorkspaceId, cursor: Cursor, since: datetime
) -> Cursor:
    """Return the cursor moved back before the first message published since an instant.

    It never moves forward.
    """
    rows = await connection.fetch(
        "SELECT shard, min(position) - 1 FROM scoring.published_messages "
        "WHERE workspace = $1 AND published_at >= $2 GROUP BY shard",
        workspace,
        since,
    )
    return {**cursor, **{shard: min(cursor.get(shard, 0), position) for shard, position in rows}}


async def count_after(
    connection: Connection, workspace: WorkspaceId, cursor: Cursor, shards: int, limit: int
) -> int:
    """Return the number of a workspace's messages after a cursor, at most `limit` a shard."""
    positions = {**dict.fromkeys(range(shards), 0), **cursor}
    count: int = await connection.fetchval(
        "SELECT count(*) FROM unnest($1::int[], $2::bigint[]) AS start (shard, position), LATERAL ("
        "SELECT FROM scoring.published_messages m WHERE m.workspace = $3 AND m.shard = start.shard "
        "AND m.position > start.position ORDER BY m.position LIMIT $4) page",
        list(positions),
        list(positions.values()),
        workspace,
        limit,
    )
    return count


async def insert_from_outbox(
    connection: Connection, schema: str, rows: Sequence[int], logged_topics: Sequence[str]
) -> bool:
    """Delete rows from the outbox and insert those of `logged_topics` into the log.

    Return whether any were inserted; `{schema}_log` is notified of them.
    """
    return bool(
        await connection.fetchval(
            f"WITH deleted AS (DELETE FROM {schema}.outbox WHERE id = ANY($1::bigint[]) "  # noqa: S608
            "RETURNING id, shard, topic, key, headers, value), "
            f"logged AS (INSERT INTO {schema}.log (workspace, shard, topic, key, headers, value) "
            "SELECT convert_from(value, 'UTF8')::json->>'workspace', shard, topic, "
            "convert_from(key, 'UTF8'), headers, value "
            "FROM deleted WHERE topic = ANY($2::text[]) ORDER BY id RETURNING 1) "
            f"SELECT true, pg_notify('{schema}_log', '') FROM logged LIMIT 1",
            rows,
            logged_topics,
        )
    )


def event_type_of_headers(headers: bytes) -> str:
    """Return the event type in a row's encoded headers."""
    return dict(message_from_row("", b"", None, headers).headers)["ce_type"].decode()


def _published_message(row: asyncpg.Record) -> PublishedMessage:
    headers = dict(message_from_row(row["topic"], b"", None, row["headers"]).headers)
    kind, message_id, trace = (
        headers["ce_type"].decode(),
        headers["ce_id"].decode(),
        headers.get(TRACEPARENT),
    )
    return PublishedMessage(
        row["shard"], row["position"], row["key"], kind, message_id, row["value"], trace
    )
