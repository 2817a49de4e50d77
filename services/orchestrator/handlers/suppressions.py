"""Application service for suppressions of contacts on channels."""

from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from libs.common.ids import ContactId, WorkspaceId
from services.orchestrator.domain.ad_audience import hash_email
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import consents, contact_lookup, contact_reader


class SuppressionService:
    """Suppresses contacts on channels, and removes suppressions."""

    def __init__(self, session: Session, registry: PlayRegistry) -> None:
        self._session = session
        self._registry = registry

    async def suppress(self, contact_id: ContactId, channel: str) -> None:
        """Suppress a contact that has unsubscribed from a channel."""
        async with self._session.acquire() as connection:
            await consents.insert_suppressions(connection, [(contact_id, channel, "unsubscribed")])

    async def allow(self, workspace: WorkspaceId, reference: str, channel: str) -> None:
        """Remove a contact's suppressions on a channel; consent is still needed.

        Raises NotFound if there is no such contact or suppression.
        """
        async with self._session.acquire() as connection, unit_of_work(connection):
            contact = await contact_lookup.get_contact_id(connection, workspace, reference)
            aliases = list(await contact_reader.get_aliases(connection, [contact]))
            snapshot = await self._registry.get_snapshot(connection)
            facts = await contact_reader.get_facts(connection, [contact], snapshot.vocabulary)
            address = (workspace, hash_email(facts[contact].email))
            if not await consents.delete_suppressions(connection, aliases, channel, address):
                raise NotFound(f"{reference!r} is not suppressed on {channel}")
