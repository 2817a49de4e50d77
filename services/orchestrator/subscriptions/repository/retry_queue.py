"""Messages that wait for a retry, behind another message, or for an operator."""

from collections.abc import Sequence

import msgspec

from libs.common.db import published_messages
from libs.common.db.connection import Connection
from libs.common.db.notifications import notify
from libs.common.db.published_messages import LogPosition
from libs.common.instants import SECOND
from services.orchestrator.subscriptions.repository import subscriptions
from services.orchestrator.subscriptions.subscription import (
    DueMessage,
    Subscription,
)
from services.orchestrator.webhooks.standard_webhooks import FaultKind

MAX_COUNTED = 1_000
"""Limit of the count of unread messages, per shard."""
_NEW_RETRY = (
    "attempts = excluded.attempts, first_failed_at = excluded.first_failed_at, "
    "due_at = excluded.due_at, fault = excluded.fault, given_up = excluded.given_up"
)


class SubscriptionBacklog(msgspec.Struct, frozen=True):
    """Numbers of undelivered messages; `unread` is counted up to `MAX_COUNTED` per shard."""

    waiting: int
    given_up: int
    unread: int


async def list_waiting(
    connection: Connection, subscription_id: str, limit: int
) -> list[DueMessage]:
    """Return waiting messages in log order by contact, the contact that is due earliest first."""
    rows = await connection.fetch(
        "SELECT shard, position, key, attempts, first_failed_at, due_at, fault FROM ("
        "SELECT *, first_value(due_at) OVER (PARTITION BY key ORDER BY position) AS head "
        "FROM orchestrator.subscription_waiting WHERE subscription_id = $1 AND NOT given_up) w "
        "ORDER BY head, key, position LIMIT $2",
        subscription_id,
        limit,
    )
    return [
        DueMessage(LogPosition(r[0], r[1]), r[2], r[3], r[4], r[5], r[6], waiting=True)
        for r in rows
    ]


async def get_seconds_until_due(connection: Connection, number: int, now: int) -> float | None:
    """Return the seconds until a waiting message of a subscription is due, or None.

    No message is due before the end of a pause of the receiver.
    """
    row = await connection.fetchrow(
        "SELECT s.pause_until, (SELECT min(head) FROM (SELECT DISTINCT ON (key) due_at AS head "
        "FROM orchestrator.subscription_waiting w WHERE w.subscription_id = s.subscription_id "
        "AND NOT given_up ORDER BY key, position) heads) "
        "FROM orchestrator.subscriptions s WHERE number = $1 AND status = 'active'",
        number,
    )
    if row is None:
        return None
    pause_until, head_due_at = row
    if pause_until > now:
        return float(pause_until - now) / SECOND
    return None if head_due_at is None else (head_due_at - now) / SECOND


async def count_waiting(connection: Connection, subscription_id: str) -> int:
    """Return the number of waiting messages."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM orchestrator.subscription_waiting "
        "WHERE subscription_id = $1 AND NOT given_up",
        subscription_id,
    )
    return count


async def list_blocked_keys(
    connection: Connection, subscription_id: str, keys: Sequence[str]
) -> set[str]:
    """Return the subset of the keys with waiting messages."""
    rows = await connection.fetch(
        "SELECT DISTINCT key FROM orchestrator.subscription_waiting "
        "WHERE subscription_id = $1 AND NOT given_up AND key = ANY($2::text[])",
        subscription_id,
        list(keys),
    )
    return {r[0] for r in rows}


async def delete_waiting(
    connection: Connection, subscription_id: str, positions: Sequence[LogPosition]
) -> None:
    """Delete waiting messages by their positions in the log."""
    if positions:
        await connection.execute(
            "DELETE FROM orchestrator.subscription_waiting WHERE subscription_id = $1 "
            "AND (shard, position) IN (SELECT * FROM unnest($2::int[], $3::bigint[]))",
            subscription_id,
            [shard for shard, _ in positions],
            [position for _, position in positions],
        )


async def upsert_retries(
    connection: Connection, subscription_id: str, messages: Sequence[tuple[DueMessage, bool]]
) -> None:
    """Store (failed message with its next retry, whether it is given up)."""
    await _upsert(connection, subscription_id, messages, f"UPDATE SET {_NEW_RETRY}")


async def insert_behind(
    connection: Connection, subscription_id: str, messages: Sequence[DueMessage]
) -> None:
    """Store messages that wait behind an earlier message about the same contact."""
    await _upsert(connection, subscription_id, [(due, False) for due in messages], "NOTHING")


async def _upsert(
    connection: Connection,
    subscription_id: str,
    messages: Sequence[tuple[DueMessage, bool]],
    on_conflict: str,
) -> None:
    if messages:
        await connection.executemany(
            "INSERT INTO orchestrator.subscription_waiting (subscription_id, shard, position, "
            "key, attempts, first_failed_at, due_at, fault, given_up) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
            f"ON CONFLICT (subscription_id, shard, position) DO {on_conflict}",
            [
                (
                    subscription_id,
                    *due.log_position,
                    due.key,
                    due.attempts,
                    due.first_failed_at,
                    due.due_at,
                    due.fault,
                    given_up,
                )
                for due, given_up in messages
            ],
        )


async def update_waiting_due(
    connection: Connection,
    subscription_id: str,
    *,
    given_up: bool = False,
    faults: Sequence[FaultKind] | None = None,
    max_attempts: int | None = None,
) -> None:
    """Make waiting messages due at once, optionally those of some faults or few attempts only.

    `given_up` includes the messages that were given up.
    """
    await connection.execute(
        "UPDATE orchestrator.subscription_waiting SET due_at = 0, given_up = false, "
        "first_failed_at = CASE WHEN given_up THEN NULL ELSE first_failed_at END "
        "WHERE subscription_id = $1 AND given_up <= $2 AND ($3::text[] IS NULL OR fault = ANY($3)) "
        "AND ($4::int IS NULL OR attempts <= $4)",
        subscription_id,
        given_up,
        faults,
        max_attempts,
    )
    await notify(connection, subscriptions.SUBSCRIPTIONS_CHANNEL)


async def upsert_for_resend(connection: Connection, subscription_id: str, message_id: str) -> bool:
    """Make a message of the delivery log due once more; return False if the log has none."""
    await notify(connection, subscriptions.SUBSCRIPTIONS_CHANNEL)
    return bool(
        await connection.fetchval(
            "INSERT INTO orchestrator.subscription_waiting (subscription_id, shard, position, key) "
            "SELECT DISTINCT subscription_id, shard, position, key "
            "FROM orchestrator.subscription_attempts "
            "WHERE subscription_id = $1 AND message_id = $2 "
            "ON CONFLICT (subscription_id, shard, position) "
            "DO UPDATE SET due_at = 0, given_up = false, first_failed_at = NULL RETURNING true",
            subscription_id,
            message_id,
        )
    )


async def count_backlog(
    connection: Connection, subscription: Subscription, shards: int
) -> SubscriptionBacklog:
    """Return the backlog; `unread` includes messages that the filter may not match."""
    counts = await connection.fetch(
        "SELECT given_up, count(*) FROM orchestrator.subscription_waiting "
        "WHERE subscription_id = $1 GROUP BY 1",
        subscription.subscription_id,
    )
    waiting: dict[bool, int] = {r[0]: r[1] for r in counts}
    unread = await published_messages.count_after(
        connection, subscription.workspace, subscription.cursor, shards, MAX_COUNTED
    )
    return SubscriptionBacklog(waiting.get(False, 0), waiting.get(True, 0), unread)


async def delete_given_up(connection: Connection, before: int) -> None:
    """Delete given-up messages that first failed before an instant (µs UTC)."""
    await connection.execute(
        "DELETE FROM orchestrator.subscription_waiting WHERE given_up AND first_failed_at < $1",
        before,
    )
