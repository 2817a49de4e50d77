"""Webhook subscriptions: settings, cursor and receiver health."""

from typing import Any

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify
from libs.common.ids import WorkspaceId
from libs.common.observability import metrics
from services.orchestrator.subscriptions.subscription import ReceiverHealth, Subscription

_COLUMNS = (
    "number, subscription_id, workspace, name, url, selection, secrets, status, reason, place, "
    "failing, unreached, probes, failing_since, pause_until"
)
_SELECT = f"SELECT {_COLUMNS} FROM orchestrator.subscriptions"
SUBSCRIPTIONS_CHANNEL = "orchestrator_subscriptions"
"""Notified when an operator changes a subscription or makes its messages due."""
_decode, _encode = msgspec.json.decode, msgspec.json.encode


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


async def list_subscriptions(connection: Connection, workspace: WorkspaceId) -> list[Subscription]:
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


async def get_by_name(
    connection: Connection, workspace: WorkspaceId, name: str
) -> Subscription | None:
    """Return the subscription of a name."""
    row = await connection.fetchrow(
        f"{_SELECT} WHERE (workspace, name) = ($1, $2)", workspace, name
    )
    return _from_row(row) if row else None


async def get_by_name_for_update(
    connection: Connection, workspace: WorkspaceId, name: str
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
    await update_silently(connection, subscription)
    await notify(connection, SUBSCRIPTIONS_CHANNEL)


async def update_silently(connection: Connection, subscription: Subscription) -> None:
    """Update a subscription without a notification: its own task does so."""
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
