"""Progress of a subscription: the outcome of a delivery round."""

import msgspec

from libs.common.db.connection import Connection
from services.orchestrator.subscriptions.repository import retry_queue, subscriptions
from services.orchestrator.subscriptions.subscription import DeliveryVerdict, Subscription


async def update_progress(
    connection: Connection,
    subscription: Subscription,
    cursor: dict[int, int],
    verdict: DeliveryVerdict,
) -> None:
    """Store the outcome of a delivery round; `subscription` is the locked row."""
    subscription_id = subscription.subscription_id
    await retry_queue.delete_waiting(
        connection, subscription_id, [due.log_position for due in verdict.delivered]
    )
    await retry_queue.upsert_retries(connection, subscription_id, verdict.failed)
    await retry_queue.insert_behind(connection, subscription_id, verdict.behind)
    if subscription.health.failing and not verdict.health.failing:
        # The receiver is back: messages that waited for that alone are due at once. A message that
        # times out again and again keeps its retry delays.
        if subscription.health.is_down:
            await retry_queue.update_waiting_due(
                connection, subscription_id, faults=("unreached", "failed")
            )
        else:
            await retry_queue.update_waiting_due(
                connection, subscription_id, faults=("unreached",), max_attempts=5
            )
    await subscriptions.update_silently(
        connection,
        msgspec.structs.replace(
            subscription,
            cursor=cursor,
            health=verdict.health,
            status=verdict.status,
            reason=verdict.reason,
        ),
    )
