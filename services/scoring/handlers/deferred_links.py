"""Deferred links: merges of contacts with long histories, outside the stream's transaction.

The stream stores such a link; this job resolves the contacts that it joins.
"""

from libs.common.db.connection import Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from services.scoring.domain.identity import MAX_LINKS
from services.scoring.handlers.contact_resolution import resolve_contacts
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.identity_change_effects import publish_identity_change
from services.scoring.repository import identity, identity_links


class DeferredLinkJob:
    """Resolves the contacts of deferred links, each link in a separate transaction."""

    def __init__(self, session: Session, outbox: Outbox, registry: CycleRegistry) -> None:
        self._session = session
        self._outbox = outbox
        self._registry = registry

    async def run(self) -> bool:
        """Resolve one link; return whether there may be more.

        The affected contacts are read, locked in id order, and read again. If they differ, the
        transaction writes nothing and the link stays for the next run.
        """
        async with self._session.acquire() as connection:
            link = await identity_links.get_deferred(connection)
            if link is None:
                return False
            async with unit_of_work(connection):
                cycles = await self._registry.lock_active_cycles(connection)
                affected = await identity_links.list_affected_contacts(
                    connection, [link], MAX_LINKS
                )
                await identity.lock_contacts(connection, affected)
                if affected == await identity_links.list_affected_contacts(
                    connection, [link], MAX_LINKS
                ):
                    await publish_identity_change(
                        connection,
                        self._outbox,
                        cycles,
                        await resolve_contacts(connection, affected),
                        "identity_merge",
                    )
                    await identity_links.delete_deferred(connection, link)
        return True
