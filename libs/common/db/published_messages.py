"""The log of what was published: what a relay has sent stays readable, in order, for whoever does not follow the topic.

A relay moves what Kafka has acknowledged from the outbox to the log, in the statement that ends the row's life there. One relay
writes a shard at a time, so a shard's positions become visible in their order, and a cursor (the last position read of each
shard) misses nothing; positions across shards have no such order. What has the same key lies in one shard, so a contact's
messages come in their order.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg
import msgspec

from libs.common.db.connection import Connection
from libs.common.db.outbox import message_from_row
from libs.common.errors import ConfigurationError
from libs.common.messages.envelope import TRACEPARENT

Cursor = dict[int, int]
"""{shard: last position read}"""
_MOST_SHARDS = 10_000


class PublishedMessage(msgspec.Struct, frozen=True):
    """A message that was published; `kind` is its event type, `message_id` tells a repeat."""

    shard: int
    position: int
    key: str
    kind: str
    message_id: str
    value: bytes
    trace: bytes | None = None


def encode_cursor(cursor: Cursor) -> str:
    """Return a cursor as its reader is given it."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """Return the cursor that a reader gives back. Raises ConfigurationError for a text that was never one."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = msgspec.msgpack.decode(raw, type=dict[int, int])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        found = {-1: -1}
    if any(
        not 0 <= shard < _MOST_SHARDS or not 0 <= position < 1 << 62
        for shard, position in found.items()
    ):
        raise ConfigurationError(
            "the cursor is none of ours: give back the last one, or none to begin at the beginning"
        )
    return found


async def list_after(
    connection: Connection, workspace: str, cursor: Cursor, shards: int, limit: int
) -> tuple[list[PublishedMessage], Cursor]:
    """Return at most `limit` of a workspace's messages behind the cursor, in each shard's order, and the cursor behind them."""
    places = {**dict.fromkeys(range(shards), 0), **cursor}
    rows = await connection.fetch(
        "SELECT found.* FROM unnest($1::int[], $2::bigint[]) AS here (shard, position), LATERAL ("
        "SELECT m.shard, m.position, m.topic, m.key, m.headers, m.value FROM scoring.published_messages m "
        "WHERE m.workspace = $4 AND m.shard = here.shard AND m.position > here.position ORDER BY m.position LIMIT $3) found "
        "ORDER BY found.position LIMIT $3",
        list(places),
        list(places.values()),
        limit,
        workspace,
    )
    return [_logged(r) for r in rows], {**cursor, **{r["shard"]: r["position"] for r in rows}}


async def get_by_position(
    connection: Connection, workspace: str, places: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], PublishedMessage]:
    """Return a workspace's messages at (shard, position)."""
    wanted = list(places)
    rows = await connection.fetch(
        "SELECT m.shard, m.position, m.topic, m.key, m.headers, m.value FROM scoring.published_messages m "
        "JOIN unnest($1::int[], $2::bigint[]) AS w (shard, position) USING (shard, position) WHERE m.workspace = $3",
        [shard for shard, _ in wanted],
        [position for _, position in wanted],
        workspace,
    )
    return {(r["shard"], r["position"]): _logged(r) for r in rows}


async def get_end_cursor(connection: Connection, workspace: str, shards: int) -> Cursor:
    """Return the cursor behind everything of a workspace that is there now."""
    rows = await connection.fetch(
        "SELECT shard, (SELECT max(position) FROM scoring.published_messages m "
        "WHERE m.workspace = $2 AND m.shard = s.shard) FROM unnest($1::int[]) AS s (shard)",
        list(range(shards)),
        workspace,
    )
    return {shard: position for shard, position in rows if position is not None}


async def get_cursor_before(
    connection: Connection, workspace: str, cursor: Cursor, moment: datetime
) -> Cursor:
    """Return the cursor, set back to before the first message published at a moment or later; never forward."""
    rows = await connection.fetch(
        "SELECT shard, min(position) - 1 FROM scoring.published_messages WHERE workspace = $1 AND published_at >= $2 "
        "GROUP BY shard",
        workspace,
        moment,
    )
    return {**cursor, **{shard: min(cursor.get(shard, 0), position) for shard, position in rows}}


async def count_after(
    connection: Connection, workspace: str, cursor: Cursor, shards: int, most: int
) -> int:
    """Return how many of a workspace's messages are behind a cursor; of each shard at most `most` are counted."""
    places = {**dict.fromkeys(range(shards), 0), **cursor}
    found: int = await connection.fetchval(
        "SELECT count(*) FROM unnest($1::int[], $2::bigint[]) AS here (shard, position), LATERAL ("
        "SELECT FROM scoring.published_messages m WHERE m.workspace = $3 AND m.shard = here.shard "
        "AND m.position > here.position ORDER BY m.position LIMIT $4) found",
        list(places),
        list(places.values()),
        workspace,
        most,
    )
    return found


async def insert_from_outbox(
    connection: Connection, schema: str, rows: Sequence[int], kept: Sequence[str]
) -> bool:
    """End the rows' life in the outbox; those of the `kept` topics go on in the log. Return whether there were such."""
    return bool(
        await connection.fetchval(
            f"WITH gone AS (DELETE FROM {schema}.outbox WHERE id = ANY($1::bigint[]) "  # noqa: S608
            "RETURNING id, shard, topic, key, headers, value), "
            f"logged AS (INSERT INTO {schema}.log (workspace, shard, topic, key, headers, value) "
            "SELECT convert_from(value, 'UTF8')::json->>'workspace', shard, topic, convert_from(key, 'UTF8'), headers, value "
            "FROM gone WHERE topic = ANY($2::text[]) ORDER BY id RETURNING 1) SELECT count(*) FROM logged",
            rows,
            kept,
        )
    )


def event_type_of_headers(headers: bytes) -> str:
    """Return the event type that a row's headers name."""
    return dict(message_from_row("", b"", None, headers).headers)["ce_type"].decode()


def _logged(row: asyncpg.Record) -> PublishedMessage:
    named = dict(message_from_row(row["topic"], b"", None, row["headers"]).headers)
    kind, message_id, trace = (
        named["ce_type"].decode(),
        named["ce_id"].decode(),
        named.get(TRACEPARENT),
    )
    return PublishedMessage(
        row["shard"], row["position"], row["key"], kind, message_id, row["value"], trace
    )
