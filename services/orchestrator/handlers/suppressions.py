"""Letting a channel be used again for a contact who has unsubscribed, complained, or whose address was wrong."""

from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from services.orchestrator.domain.ad_audience import hash_email
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import consents, contact_lookup, contact_reader


class SuppressionService:
    """Knows one workspace's contacts, and on which channels nothing goes out to them."""

    def __init__(self, session: Session, registry: PlayRegistry) -> None:
        self._session = session
        self._registry = registry

    async def suppress(self, contact_id: str, channel: str) -> None:
        """Send a contact nothing more on a channel: it has unsubscribed."""
        async with self._session.acquire() as connection:
            await consents.insert_suppressions(connection, [(contact_id, channel, "unsubscribed")])

    async def allow(self, workspace: str, who: str, channel: str) -> None:
        """Let a channel be used again; consent is still needed. Raises NotFound where nothing was suppressed."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            contact = await contact_lookup.get_contact_id(connection, workspace, who)
            relatives = list(await contact_reader.get_aliases(connection, [contact]))
            facts = (
                await contact_reader.get_facts(
                    connection,
                    [contact],
                    (await self._registry.get_snapshot(connection)).vocabulary,
                )
            )[contact]
            if not await consents.delete_suppressions(
                connection, relatives, channel, (workspace, hash_email(facts.email))
            ):
                raise NotFound(f"{who!r} is not suppressed on {channel}")
