"""Webhook subscriptions: how far each has gone, what waits, and every attempt."""

from collections.abc import Sequence
from typing import Any

import msgspec

from libs.common.db import published_messages
from libs.common.db.connection import Connection
from libs.common.observability import metrics
from services.orchestrator.subscriptions.subscription import (
    DeliveryVerdict,
    DueMessage,
    Place,
    ReceiverHealth,
    Subscription,
)
from services.orchestrator.webhooks.standard_webhooks import FaultKind

_COLUMNS = (
    "number, subscription_id, workspace, name, url, selection, secrets, status, reason, place, "
    "failing, unreached, probes, failing_since, pause_until"
)
MAX_COUNTED = 1_000
"""Unread messages are counted up to so many of each shard."""
_read, _write = msgspec.json.decode, msgspec.json.encode


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
    """What a subscription has before it: waiting for a retry, given up, and not looked at yet (counted up to a bound)."""

    waiting: int
    given_up: int
    unread: int


async def insert_subscription(connection: Connection, subscription: Subscription) -> bool:
    """Add a subscription; return False when there is one of the name."""
    s = subscription
    return bool(
        await connection.fetchval(
            "INSERT INTO orchestrator.subscriptions (subscription_id, workspace, name, url, selection, secrets, place) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (workspace, name) DO NOTHING RETURNING true",
            s.subscription_id,
            s.workspace,
            s.name,
            s.url,
            _text(s.selection),
            _text(s.secrets),
            _text(s.place),
        )
    )


async def list_subscriptions(connection: Connection, workspace: str) -> list[Subscription]:
    """Return a workspace's subscriptions by name."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM orchestrator.subscriptions WHERE workspace = $1 ORDER BY name",
        workspace,
    )
    return [_subscription(r) for r in rows]


async def list_active_numbers(connection: Connection) -> list[int]:
    """Return the numbers of all that are active."""
    rows = await connection.fetch(
        "SELECT number FROM orchestrator.subscriptions WHERE status = 'active' ORDER BY 1"
    )
    return [r[0] for r in rows]


async def get_by_name(
    connection: Connection, workspace: str, name: str, *, hold: bool = True
) -> Subscription | None:
    """Return a subscription; `hold` keeps it until the transaction ends."""
    held = " FOR UPDATE" if hold else ""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM orchestrator.subscriptions WHERE (workspace, name) = ($1, $2){held}",
        workspace,
        name,
    )
    return _subscription(row) if row else None


async def get_by_number(
    connection: Connection, number: int, *, hold: bool = False
) -> Subscription | None:
    """Return the subscription of a number; `hold` keeps it until the transaction ends."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM orchestrator.subscriptions WHERE number = $1{' FOR UPDATE' if hold else ''}",
        number,
    )
    return _subscription(row) if row else None


async def update_subscription(connection: Connection, subscription: Subscription) -> None:
    """Write what an operator may change."""
    s = subscription
    await connection.execute(
        "UPDATE orchestrator.subscriptions SET url = $2, selection = $3, secrets = $4, status = $5, reason = $6, place = $7, "
        "failing = $8, unreached = $9, probes = $10, failing_since = $11, pause_until = $12 WHERE subscription_id = $1",
        s.subscription_id, s.url, _text(s.selection), _text(s.secrets), s.status, s.reason, _text(s.place),
        list(s.health.failing), s.health.unreached, s.health.probes, s.health.failing_since, s.health.pause_until,
    )  # fmt: skip


async def delete_subscription(connection: Connection, subscription_id: str) -> None:
    """Forget a subscription with all that waits for it."""
    await connection.execute(
        "DELETE FROM orchestrator.subscriptions WHERE subscription_id = $1", subscription_id
    )


async def list_waiting(
    connection: Connection, subscription_id: str, limit: int
) -> list[DueMessage]:
    """Return what waits, contact by contact in the log's order; those whose head is due first go first."""
    rows = await connection.fetch(
        "SELECT shard, position, key, attempts, first_failed_at, due_at, fault FROM ("
        "SELECT *, first_value(due_at) OVER (PARTITION BY key ORDER BY position) AS head "
        "FROM orchestrator.subscription_waiting WHERE subscription_id = $1 AND NOT given_up) w "
        "ORDER BY head, key, position LIMIT $2",
        subscription_id,
        limit,
    )
    return [DueMessage((r[0], r[1]), r[2], r[3], r[4], r[5], r[6], waiting=True) for r in rows]


async def count_waiting(connection: Connection, subscription_id: str) -> int:
    """Return how many messages wait."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM orchestrator.subscription_waiting WHERE subscription_id = $1 AND NOT given_up",
        subscription_id,
    )
    return found


async def list_blocked_keys(
    connection: Connection, subscription_id: str, keys: Sequence[str]
) -> set[str]:
    """Return those of the keys about which something waits."""
    rows = await connection.fetch(
        "SELECT DISTINCT key FROM orchestrator.subscription_waiting "
        "WHERE subscription_id = $1 AND NOT given_up AND key = ANY($2::text[])",
        subscription_id,
        list(keys),
    )
    return {r[0] for r in rows}


async def update_progress(
    connection: Connection, now: Subscription, place: dict[int, int], verdict: DeliveryVerdict
) -> None:
    """Write down a turn's outcome."""
    await _done(connection, now.subscription_id, [due.place for due in verdict.delivered])
    await _wait(connection, now.subscription_id, verdict.failed, _AGAIN)
    await _wait(
        connection, now.subscription_id, [(due, False) for due in verdict.behind], "NOTHING"
    )
    if (
        now.health.failing and not verdict.health.failing
    ):  # it is back: what waits for that alone has waited enough
        if now.health.is_down:
            await update_waiting_due(
                connection, now.subscription_id, faults=("unreached", "failed")
            )
        else:  # a message that ends in a time-out again and again has its table of waits
            await update_waiting_due(
                connection, now.subscription_id, faults=("unreached",), most_attempts=5
            )
    await update_subscription(
        connection,
        msgspec.structs.replace(
            now, place=place, health=verdict.health, status=verdict.status, reason=verdict.reason
        ),
    )


async def _done(connection: Connection, subscription_id: str, places: Sequence[Place]) -> None:
    if places:
        await connection.execute(
            "DELETE FROM orchestrator.subscription_waiting WHERE subscription_id = $1 "
            "AND (shard, position) IN (SELECT * FROM unnest($2::int[], $3::bigint[]))",
            subscription_id,
            [shard for shard, _ in places],
            [position for _, position in places],
        )


_AGAIN = (
    "UPDATE SET attempts = excluded.attempts, first_failed_at = excluded.first_failed_at, due_at = excluded.due_at, "
    "fault = excluded.fault, given_up = excluded.given_up"
)


async def _wait(
    connection: Connection,
    subscription_id: str,
    found: Sequence[tuple[DueMessage, bool]],
    known: str,
) -> None:
    if found:
        await connection.executemany(
            "INSERT INTO orchestrator.subscription_waiting (subscription_id, shard, position, key, attempts, "
            "first_failed_at, due_at, fault, given_up) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
            f"ON CONFLICT (subscription_id, shard, position) DO {known}",
            [
                (
                    subscription_id,
                    *due.place,
                    due.key,
                    due.attempts,
                    due.first_failed_at,
                    due.due_at,
                    due.fault,
                    over,
                )
                for due, over in found
            ],
        )


async def update_waiting_due(
    connection: Connection,
    subscription_id: str,
    *,
    given_up: bool = False,
    faults: Sequence[FaultKind] | None = None,
    most_attempts: int | None = None,
) -> None:
    """Let what waits go out at once, or what had such a fault and so few attempts; with `given_up` that as well."""
    await connection.execute(
        "UPDATE orchestrator.subscription_waiting SET due_at = 0, given_up = false, "
        "first_failed_at = CASE WHEN given_up THEN NULL ELSE first_failed_at END "
        "WHERE subscription_id = $1 AND given_up <= $2 AND ($3::text[] IS NULL OR fault = ANY($3)) "
        "AND ($4::int IS NULL OR attempts <= $4)",
        subscription_id,
        given_up,
        faults,
        most_attempts,
    )


async def update_for_resend(connection: Connection, subscription_id: str, message_id: str) -> bool:
    """Let a message that was tried before go out once more; return whether there was one."""
    return bool(
        await connection.fetchval(
            "INSERT INTO orchestrator.subscription_waiting (subscription_id, shard, position, key) "
            "SELECT DISTINCT subscription_id, shard, position, key FROM orchestrator.subscription_attempts "
            "WHERE subscription_id = $1 AND message_id = $2 ON CONFLICT (subscription_id, shard, position) "
            "DO UPDATE SET due_at = 0, given_up = false, first_failed_at = NULL RETURNING true",
            subscription_id,
            message_id,
        )
    )


async def insert_attempts(
    connection: Connection, subscription_id: str, found: Sequence[AttemptRow]
) -> None:
    """Note attempts in the delivery log."""
    await connection.copy_records_to_table(
        "subscription_attempts",
        schema_name="orchestrator",
        columns=["subscription_id", *AttemptRow.__struct_fields__],
        records=[(subscription_id, *msgspec.structs.astuple(one)) for one in found],
    )


async def list_attempts(
    connection: Connection, subscription_id: str, limit: int
) -> list[AttemptRow]:
    """Return the newest attempts first."""
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
    """Return what a subscription has before it; unread counts what the selection may not want."""
    counts = await connection.fetch(
        "SELECT given_up, count(*) FROM orchestrator.subscription_waiting WHERE subscription_id = $1 GROUP BY 1",
        subscription.subscription_id,
    )
    waits: dict[bool, int] = {r[0]: r[1] for r in counts}
    unread = await published_messages.count_after(
        connection, subscription.workspace, subscription.place, shards, MAX_COUNTED
    )
    return SubscriptionBacklog(waits.get(False, 0), waits.get(True, 0), unread)


async def delete_old(connection: Connection, before: int) -> None:
    """Forget attempts made before an instant, and what began to fail before it and was given up."""
    await connection.execute("DELETE FROM orchestrator.subscription_attempts WHERE at < $1", before)
    await connection.execute(
        "DELETE FROM orchestrator.subscription_waiting WHERE given_up AND first_failed_at < $1",
        before,
    )


async def collect_gauges(connection: Connection) -> None:
    """Look at what waits for a retry, and at how many subscriptions are in which status."""
    rows = await connection.fetch(
        "SELECT status, count(*) FROM orchestrator.subscriptions GROUP BY 1"
    )
    counts: dict[str, int] = {r[0]: r[1] for r in rows}
    for status in ("active", "paused", "disabled"):
        metrics.SUBSCRIPTIONS.labels(status=status).set(counts.get(status, 0))
    query = "SELECT count(*) FROM orchestrator.subscription_waiting WHERE NOT given_up"
    metrics.WEBHOOKS_WAITING.set(await connection.fetchval(query))


def _text(value: Any) -> str:
    return _write(value).decode()


def _subscription(row: Any) -> Subscription:
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
        place,
        *health,
    ) = row
    found = {"selection": _read(selection), "secrets": _read(secrets), "place": _read(place)}
    return msgspec.convert(
        {
            "number": number, "subscription_id": subscription_id, "workspace": workspace, "name": name, "url": url,
            "status": status, "reason": reason, "health": ReceiverHealth(tuple(health[0]), *health[1:]), **found,
        },
        Subscription, strict=False,
    )  # fmt: skip
