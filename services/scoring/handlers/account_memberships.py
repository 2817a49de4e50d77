"""Memberships and account queue after a batch of touchpoints."""

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from services.scoring.domain.identity import Key
from services.scoring.handlers.touchpoint_storage import StoredBatch
from services.scoring.repository import accounts


async def write_memberships(
    connection: Connection, stored_batch: StoredBatch, moved: dict[ContactId, Key], *, folded: bool
) -> None:
    """Insert possible memberships and, if accounts are `folded`, queue the accounts concerned."""
    fresh = list(zip(stored_batch.fresh, stored_batch.owners, strict=True))
    await accounts.upsert_memberships(connection, fresh)
    await accounts.insert_moved_memberships(connection, stored_batch.moved)
    if folded:
        since: dict[ContactId, Key] = {}
        for touchpoint, contact in fresh:
            since[contact] = min(since.get(contact, touchpoint.key), touchpoint.key)
        await accounts.enqueue_accounts_of(connection, since, "touchpoint")
        await accounts.enqueue_accounts_of(connection, moved, "identity_merge")
