"""Repository of webhook subscriptions, their waiting messages and their delivery log."""

from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.db import published_messages
from libs.common.db.connection import Connection
from libs.common.db.notifications import notify
from libs.common.instants import SECOND
from libs.common.observability import metrics
from services.orchestrator.subscriptions.subscription import (
    DeliveryVerdict,
    DueMessage,
    LogPosition,
    ReceiverHealth,
    Subscription,
)
from services.orchestrator.webhooks.standard_webhooks import FaultKind

_COLUMNS = (
    "number, subscription_id, workspace, name, url, selection, secrets, status, reason, place, "
    "failing, unreached, probes, failing_since, pause_until"
)
_SELECT = f"SELECT {_COLUMNS} FROM orchestrator.subscriptions"
MAX_COUNTED = 1_000
"""Limit of the count of unread messages, per shard."""
SUBSCRIPTIONS_CHANNEL = "orchestrator_subscriptions"
"""Notified when an operator changes a subscription or makes its messages due."""
_decode, _encode = msgspec.json.decode, msgspec.json.encode


class AttemptRow(msgspec.Struct, frozen=True):
    """One attempt of the delivery log; `at` in microseconds UTC."""

    message_id: str
    shard: int
    position: int
    kind: str
    key: str
    attempt: int
    at: int
    milliseconds: int
    status: int | None
    detail: str


class SubscriptionBacklog(msgspec.Struct, frozen=True):
    """Numbers of undelivered messages; `unread` is counted up to `MAX_COUNTED` per shard."""

    waiting: int
    given_up: int
    unread: int


async def insert_subscription(connection: Connection, subscription: Subscription) -> bool:
    """Insert a subscription; return False if the name is taken."""
    s = subscription
    await notify(connection, SUBSCRIPTIONS_CHANNEL)
    return bool(
        await connection.fetchval(
            "INSERT INTO orchestrator.subscriptions "
            "(subscription_id, workspace, name, url, selection, secrets, place) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7) "
            "ON CONFLICT (workspace, name) DO NOTHING RETURNING true",
            s.subscription_id,
            s.workspace,
            s.name,
            s.url,
            _to_json(s.selection),
            _to_json(s.secrets),
            _to_json(s.cursor),
        )
    )


async def list_subscriptions(connection: Connection, workspace: str) -> list[Subscription]:
    """Return a workspace's subscriptions in order of name."""
    rows = await connection.fetch(
        f"{_SELECT} WHERE workspace = $1 ORDER BY name",
        workspace,
    )
    return [_from_row(r) for r in rows]


async def list_active_numbers(connection: Connection) -> list[int]:
    """Return the numbers of the active subscriptions of all workspaces."""
    rows = await connection.fetch(
        "SELECT number FROM orchestrator.subscriptions WHERE status = 'active' ORDER BY 1"
    )
    return [r[0] for r in rows]


async def get_by_name(connection: Connection, workspace: str, name: str) -> Subscription | None:
    """Return the subscription of a name."""
    row = await connection.fetchrow(
        f"{_SELECT} WHERE (workspace, name) = ($1, $2)", workspace, name
    )
    return _from_row(row) if row else None


async def get_by_name_for_update(
    connection: Connection, workspace: str, name: str
) -> Subscription | None:
    """Return the subscription of a name; its row stays locked until the transaction ends."""
    row = await connection.fetchrow(
        f"{_SELECT} WHERE (workspace, name) = ($1, $2) FOR UPDATE", workspace, name
    )
    return _from_row(row) if row else None


async def get_by_number(connection: Connection, number: int) -> Subscription | None:
    """Return the subscription of a number."""
    row = await connection.fetchrow(f"{_SELECT} WHERE number = $1", number)
    return _from_row(row) if row else None


async def get_by_number_for_update(connection: Connection, number: int) -> Subscription | None:
    """Return the subscription of a number; its row stays locked until the transaction ends."""
    row = await connection.fetchrow(f"{_SELECT} WHERE number = $1 FOR UPDATE", number)
    return _from_row(row) if row else None


async def update_subscription(connection: Connection, subscription: Subscription) -> None:
    """Update a subscription's settings, status, cursor and health, and notify its task."""
    await _update_subscription(connection, subscription)
    await notify(connection, SUBSCRIPTIONS_CHANNEL)


async def _update_subscription(connection: Connection, subscription: Subscription) -> None:
    s = subscription
    await connection.execute(
        "UPDATE orchestrator.subscriptions SET url = $2, selection = $3, secrets = $4, "
        "status = $5, reason = $6, place = $7, failing = $8, unreached = $9, probes = $10, "
        "failing_since = $11, pause_until = $12 WHERE subscription_id = $1",
        s.subscription_id, s.url, _to_json(s.selection), _to_json(s.secrets),
        s.status, s.reason, _to_json(s.cursor), list(s.health.failing), s.health.unreached,
        s.health.probes, s.health.failing_since, s.health.pause_until,
    )  # fmt: skip


async def delete_subscription(connection: Connection, subscription_id: str) -> None:
    """Delete a subscription with its waiting messages and its delivery log."""
    await connection.execute(
        "DELETE FROM orchestrator.subscriptions WHERE subscription_id = $1", subscription_id
    )
    await notify(connection, SUBSCRIPTIONS_CHANNEL)


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
    return [DueMessage((r[0], r[1]), r[2], r[3], r[4], r[5], r[6], waiting=True) for r in rows]


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


async def update_progress(
    connection: Connection,
    subscription: Subscription,
    cursor: dict[int, int],
    verdict: DeliveryVerdict,
) -> None:
    """Store the outcome of a delivery round; `subscription` is the locked row."""
    subscription_id = subscription.subscription_id
    await _delete_waiting(
        connection, subscription_id, [due.log_position for due in verdict.delivered]
    )
    await _upsert_waiting(connection, subscription_id, verdict.failed, _UPDATE_RETRY)
    behind = [(due, False) for due in verdict.behind]
    await _upsert_waiting(connection, subscription_id, behind, "NOTHING")
    if subscription.health.failing and not verdict.health.failing:
        # The receiver is back: messages that waited for that alone are due at once. A message that
        # times out again and again keeps its retry delays.
        if subscription.health.is_down:
            await update_waiting_due(connection, subscription_id, faults=("unreached", "failed"))
        else:
            await update_waiting_due(
                connection, subscription_id, faults=("unreached",), max_attempts=5
            )
    await _update_subscription(
        connection,
        msgspec.structs.replace(
            subscription,
            cursor=cursor,
            health=verdict.health,
            status=verdict.status,
            reason=verdict.reason,
        ),
    )


async def _delete_waiting(
    connection: Connection, subscription_id: str, positions: Sequence[LogPosition]
) -> None:
    if positions:
        await connection.execute(
            "DELETE FROM orchestrator.subscription_waiting WHERE subscription_id = $1 "
            "AND (shard, position) IN (SELECT * FROM unnest($2::int[], $3::bigint[]))",
            subscription_id,
            [shard for shard, _ in positions],
            [position for _, position in positions],
        )


_UPDATE_RETRY = (
    "UPDATE SET attempts = excluded.attempts, first_failed_at = excluded.first_failed_at, "
    "due_at = excluded.due_at, fault = excluded.fault, given_up = excluded.given_up"
)


async def _upsert_waiting(
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
    await notify(connection, SUBSCRIPTIONS_CHANNEL)


async def upsert_for_resend(connection: Connection, subscription_id: str, message_id: str) -> bool:
    """Make a message of the delivery log due once more; return False if the log has none."""
    await notify(connection, SUBSCRIPTIONS_CHANNEL)
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


async def insert_attempts(
    connection: Connection, subscription_id: str, attempts: Sequence[AttemptRow]
) -> None:
    """Append attempts to the delivery log."""
    await connection.copy_records_to_table(
        "subscription_attempts",
        schema_name="orchestrator",
        columns=["subscription_id", *AttemptRow.__struct_fields__],
        records=[(subscription_id, *msgspec.structs.astuple(attempt)) for attempt in attempts],
    )


async def list_attempts(
    connection: Connection, subscription_id: str, limit: int
) -> list[AttemptRow]:
    """Return the newest attempts, newest first."""
    rows = await connection.fetch(
        f"SELECT {', '.join(AttemptRow.__struct_fields__)} FROM orchestrator.subscription_attempts "
        "WHERE subscription_id = $1 ORDER BY id DESC LIMIT $2",
        subscription_id,
        limit,
    )
    return [AttemptRow(*r) for r in rows]


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


async def delete_old(connection: Connection, before: int) -> None:
    """Delete attempts made, and given-up messages that first failed, before an instant (µs UTC)."""
    await connection.execute("DELETE FROM orchestrator.subscription_attempts WHERE at < $1", before)
    await connection.execute(
        "DELETE FROM orchestrator.subscription_waiting WHERE given_up AND first_failed_at < $1",
        before,
    )


async def collect_gauges(connection: Connection) -> None:
    """Set the gauges of subscriptions by status and of waiting messages."""
    rows = await connection.fetch(
        "SELECT status, count(*) FROM orchestrator.subscriptions GROUP BY 1"
    )
    counts: dict[str, int] = {r[0]: r[1] for r in rows}
    for status in ("active", "paused", "disabled"):
        metrics.SUBSCRIPTIONS.labels(status=status).set(counts.get(status, 0))
    query = "SELECT count(*) FROM orchestrator.subscription_waiting WHERE NOT given_up"
    metrics.WEBHOOKS_WAITING.set(await connection.fetchval(query))


def _to_json(value: Any) -> str:
    return _encode(value).decode()


def _from_row(row: Any) -> Subscription:
    (
        number,
        subscription_id,
        workspace,
        name,
        url,
        selection,
        secrets,
        status,
        reason,
        cursor,
        *health,
    ) = row
    documents = {
        "selection": _decode(selection),
        "secrets": _decode(secrets),
        "cursor": _decode(cursor),
    }
    return msgspec.convert(
        {
            "number": number, "subscription_id": subscription_id, "workspace": workspace,
            "name": name, "url": url, "status": status, "reason": reason,
            "health": ReceiverHealth(tuple(health[0]), *health[1:]), **documents,
        },
        Subscription, strict=False,
    )  # fmt: skip
