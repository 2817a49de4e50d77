"""Letting a channel be used again for a contact who has unsubscribed, complained, or whose address was wrong."""

from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import NotFound
from services.orchestrator.domain.audience import email_sha256
from services.orchestrator.handlers.playbook import Playbook
from services.orchestrator.repository import consents, lookup, people


class Suppressions:
    """Knows one workspace's contacts, and on which channels nothing goes out to them."""

    def __init__(self, session: Session, playbook: Playbook) -> None:
        self._session = session
        self._playbook = playbook

    async def suppress(self, contact_id: str, channel: str) -> None:
        """Send a contact nothing more on a channel: it has unsubscribed."""
        async with self._session.acquire() as connection:
            await consents.suppress(connection, [(contact_id, channel, "unsubscribed")])

    async def allow(self, workspace: str, who: str, channel: str) -> None:
        """Let a channel be used again; consent is still needed. Raises NotFound where nothing was suppressed."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            contact = await lookup.known(connection, workspace, who)
            relatives = list(await people.family(connection, [contact]))
            facts = (await people.facts(connection, [contact], (await self._playbook.now(connection)).vocabulary))[
                contact
            ]
            if not await consents.allow(connection, relatives, channel, (workspace, email_sha256(facts.email))):
                raise NotFound(f"{who!r} is not suppressed on {channel}")
