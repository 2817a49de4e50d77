"""What to show somebody who looks at the site now: the page asks with its write key, for a visitor who may be anybody."""

from collections.abc import Sequence

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, SessionPool
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import OriginNotAllowed, UnknownWriteKey
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import ContentItem, choose_content
from services.orchestrator.domain.visitor import (
    SiteSource,
    Visitor,
    VisitorIdentifier,
    identify_visitor,
)
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import actions, contact_lookup, contact_reader, site_sources

CHANNEL = "onsite"


class OnsiteRequest(msgspec.Struct, frozen=True):
    """What a page asks for. With `show` what is answered counts as shown."""

    visitor: Visitor
    types: tuple[str, ...] = ()
    fallback: str | None = None
    show: bool = False


class OnsiteOffer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to show, None if nothing fits. Why, and for whom, is told only to a visitor who has proven who they are."""

    content: str | None
    type: str | None = None
    title: str | None = None
    url: str | None = None
    summary: str | None = None
    proven: bool = False
    contact_id: str | None = None
    reasons: Sequence[str] = ()


class OnsiteService:
    """Answers pages."""

    def __init__(
        self, sessions: SessionPool, registry: PlayRegistry, keys: tuple[str, ...], clock: Clock
    ) -> None:
        """`keys` are those that sign links to persons."""
        self._sessions = sessions
        self._registry = registry
        self._keys = keys
        self._clock = clock

    async def get_offer(
        self, write_key: str | None, origin: str | None, wish: OnsiteRequest
    ) -> OnsiteOffer:
        """Return what to show now: same input, same answer. Raises UnknownWriteKey, OriginNotAllowed."""
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            site = await site_sources.get_by_write_key(connection, write_key) if write_key else None
            if site is None:
                raise UnknownWriteKey
            if not site.allows(origin):
                raise OriginNotAllowed(f"{site.source} takes nothing from {origin!r:.200}")
            who = identify_visitor(wish.visitor, site, self._keys, self._clock.now())
            return await self._chosen(connection, site, who, wish)

    async def _chosen(
        self,
        connection: Connection,
        site: SiteSource,
        who: VisitorIdentifier | None,
        wish: OnsiteRequest,
    ) -> OnsiteOffer:
        snapshot = await self._registry.get_snapshot(connection)
        contact = (
            await contact_lookup.find_by_identifier(connection, site.workspace, who.kind, who.value)
            if who
            else None
        )
        facts = (
            (await contact_reader.get_facts(connection, [contact], snapshot.vocabulary))[contact]
            if contact
            else ContactFacts("")
        )
        proven = who is not None and who.verified and contact is not None
        items = [
            item
            for item in snapshot.contents.get(site.workspace, ())
            if proven or not item.personal
        ]
        found = choose_content(items, facts, CHANNEL, wish.types, wish.fallback)
        if wish.show and contact and found.item is not None:
            await actions.upsert_exposures(
                connection, [(contact, found.item.content, self._clock.now())]
            )
        return _told(found.item, contact if proven else None, found.reasons if proven else ())


def _told(item: ContentItem | None, contact: str | None, reasons: Sequence[str]) -> OnsiteOffer:
    proven = contact is not None
    if item is None:
        return OnsiteOffer(None, proven=proven, contact_id=contact, reasons=reasons)
    return OnsiteOffer(
        item.content,
        item.type,
        item.title,
        item.url,
        item.summary or None,
        proven,
        contact,
        reasons,
    )
