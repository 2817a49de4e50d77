"""Joining people with long histories: a link seen in the stream is noted there, and takes effect here."""

from libs.common.db.connection import Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from services.scoring.domain.identity import MAX_LINKS
from services.scoring.handlers.catalogue import Catalogue
from services.scoring.handlers.regroup import regroup
from services.scoring.handlers.tell import tell
from services.scoring.repository import identity, links


class RegroupJob:
    """Regroups those whom deferred links join, each link in a transaction of its own."""

    def __init__(self, session: Session, outbox: Outbox, catalogue: Catalogue) -> None:
        self._session = session
        self._outbox = outbox
        self._catalogue = catalogue

    async def run(self) -> bool:
        """Regroup for one link; return whether there may be more."""
        async with self._session.acquire() as connection:
            link = await links.deferred(connection)
            if link is None:
                return False
            async with unit_of_work(connection):
                cycles = await self._catalogue.folding(connection)
                touched = await links.touched(connection, [link], MAX_LINKS)
                await identity.lock(connection, touched)
                if touched == await links.touched(connection, [link], MAX_LINKS):
                    await tell(connection, self._outbox, cycles, await regroup(connection, touched), "identity_merge")
                    await links.regrouped(connection, link)
        return True
