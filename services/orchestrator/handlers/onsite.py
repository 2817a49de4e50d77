"""What to show somebody who looks at the site now: the page asks with its write key, for a visitor who may be anybody."""

from collections.abc import Sequence

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, SessionPool
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import PerigeeError
from services.orchestrator.domain.content import Item, choose
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.visitor import Named, Site, Visitor, named
from services.orchestrator.handlers.playbook import Playbook
from services.orchestrator.repository import actions, lookup, people, sites

CHANNEL = "onsite"


class UnknownKey(PerigeeError):  # noqa: N818 - an answer, not a fault of ours
    """No source has this write key: 401."""


class StrangeOrigin(PerigeeError):  # noqa: N818
    """Pages of this origin may not ask: 403."""


class Wish(msgspec.Struct, frozen=True):
    """What a page asks for. With `show` what is answered counts as shown."""

    visitor: Visitor
    types: tuple[str, ...] = ()
    fallback: str | None = None
    show: bool = False


class Offer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to show, None if nothing fits. Why, and for whom, is told only to a visitor who has proven who they are."""

    content: str | None
    type: str | None = None
    title: str | None = None
    url: str | None = None
    summary: str | None = None
    proven: bool = False
    contact_id: str | None = None
    reasons: Sequence[str] = ()


class Onsite:
    """Answers pages."""

    def __init__(self, sessions: SessionPool, playbook: Playbook, keys: tuple[str, ...], clock: Clock) -> None:
        """`keys` are those that sign links to persons."""
        self._sessions = sessions
        self._playbook = playbook
        self._keys = keys
        self._clock = clock

    async def offer(self, write_key: str | None, origin: str | None, wish: Wish) -> Offer:
        """Return what to show now: same input, same answer. Raises UnknownWriteKey, OriginNotAllowed."""
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            site = await sites.of_key(connection, write_key) if write_key else None
            if site is None:
                raise UnknownKey("no source has this write key")
            if not site.allows(origin):
                raise StrangeOrigin(f"{site.source} takes nothing from {origin!r:.200}")
            who = named(wish.visitor, site, self._keys, self._clock.now())
            return await self._chosen(connection, site, who, wish)

    async def _chosen(self, connection: Connection, site: Site, who: Named | None, wish: Wish) -> Offer:
        book = await self._playbook.now(connection)
        contact = await lookup.of_identifier(connection, site.workspace, who.kind, who.value) if who else None
        facts = (await people.facts(connection, [contact], book.vocabulary))[contact] if contact else Facts("")
        proven = who is not None and who.proven and contact is not None
        items = [item for item in book.contents.get(site.workspace, ()) if proven or not item.personal]
        found = choose(items, facts, CHANNEL, wish.types, wish.fallback)
        if wish.show and contact and found.item is not None:
            await actions.expose(connection, [(contact, found.item.content, self._clock.now())])
        return _told(found.item, contact if proven else None, found.reasons if proven else ())


def _told(item: Item | None, contact: str | None, reasons: Sequence[str]) -> Offer:
    proven = contact is not None
    if item is None:
        return Offer(None, proven=proven, contact_id=contact, reasons=reasons)
    return Offer(item.content, item.type, item.title, item.url, item.summary or None, proven, contact, reasons)
