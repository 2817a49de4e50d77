"""Locking of the contacts of due work."""

from collections.abc import Sequence

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from services.orchestrator.repository import contact_reader


async def lock_unmerged(
    connection: Connection, candidates: Sequence[ContactId], limit: int
) -> list[ContactId]:
    """Lock at most `limit` contacts and return the candidate ids that belong to them.

    Contacts that another process has locked are skipped, and so are those that were merged
    between the look-up and the lock.
    """
    if not candidates:
        return []
    before = await contact_reader.get_survivors(connection, candidates)
    locked = await contact_reader.lock_contacts(connection, set(before.values()), limit=limit)
    after = await contact_reader.get_survivors(connection, candidates)
    return [
        contact
        for contact in candidates
        if before[contact] in locked and after[contact] == before[contact]
    ]
