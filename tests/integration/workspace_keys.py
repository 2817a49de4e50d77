"""Keys of two workspaces, for tests of access."""

from libs.common.db import api_keys
from libs.common.db.connection import Session


async def make_keys(database):
    """Insert keys of each kind in two workspaces, and one expired key; return them by name."""
    session = Session(database, "test")
    async with session.acquire() as connection:
        await api_keys.insert_workspace(connection, "other")
        keys = {
            "service": await api_keys.insert_key(connection, "default", "crm", "service"),
            "contacts": await api_keys.insert_key(
                connection, "default", "bi", "service", ("contacts:read",)
            ),
            "admin": await api_keys.insert_key(connection, "default", "ops", "admin"),
            "other-service": await api_keys.insert_key(connection, "other", "crm", "service"),
            "other-admin": await api_keys.insert_key(connection, "other", "ops", "admin"),
        }
        ended = await api_keys.insert_key(connection, "default", "gone", "admin")
        await api_keys.update_key_ends(connection, "default", "gone", 0)
    await session.close()
    return {**keys, "ended": ended}
