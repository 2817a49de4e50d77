"""Letting a channel be used again for a contact who has unsubscribed, complained, or whose address was wrong."""

from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from services.orchestrator.repository import consents, people


class Suppressions:
    """Knows one workspace's contacts, and on which channels nothing goes out to them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def suppress(self, contact_id: str, channel: str) -> None:
        """Send a contact nothing more on a channel: it has unsubscribed."""
        async with self._session.use() as connection:
            await consents.suppress(connection, [(contact_id, channel, "unsubscribed")])

    async def allow(self, workspace: str, who: str, channel: str) -> None:
        """Let a channel be used again; consent is still needed. Raises NotFound where nothing was suppressed."""
        async with self._session.use() as connection, unit_of_work(connection):
            contact = await people.known(connection, workspace, who)
            relatives = list(await people.family(connection, [contact]))
            if not await consents.allow(connection, relatives, channel):
                raise NotFound(f"{who!r} is not suppressed on {channel}")
