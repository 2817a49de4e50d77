"""Joining people with long histories: a link seen in the stream is noted there, and takes effect here."""

from libs.common.db.connection import Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from services.scoring.domain.identity import MAX_LINKS
from services.scoring.handlers.contact_resolution import resolve_contacts
from services.scoring.handlers.cycle_registry import CycleRegistry
from services.scoring.handlers.identity_changes import publish_identity_change
from services.scoring.repository import identity, identity_links


class DeferredLinkJob:
    """Regroups those whom deferred links join, each link in a transaction of its own."""

    def __init__(self, session: Session, outbox: Outbox, catalogue: CycleRegistry) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue

    async def run(self) -> bool:
        """Regroup for one link; return whether there may be more."""
        async with self._session.acquire() as connection:
            link = await identity_links.lock_deferred(connection)
            if link is None:
                return False
            async with unit_of_work(connection):
                cycles = await self._catalogue.lock_active_cycles(connection)
                touched = await identity_links.list_affected_contacts(connection, [link], MAX_LINKS)
                await identity.lock_contacts(connection, touched)
                if touched == await identity_links.list_affected_contacts(
                    connection, [link], MAX_LINKS
                ):
                    await publish_identity_change(
                        connection,
                        self._outbox,
                        cycles,
                        await resolve_contacts(connection, touched),
                        "identity_merge",
                    )
                    await identity_links.delete_deferred(connection, link)
        return True
