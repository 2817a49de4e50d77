"""On-site content: the offer for a visitor of a site, asked for with the site's write key."""

from collections.abc import Sequence

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, SessionPool
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import OriginNotAllowed, UnknownWriteKey
from libs.common.ids import ContactId
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.content import ContentItem, choose_content
from services.orchestrator.domain.visitor import (
    SiteSource,
    Visitor,
    VisitorIdentifier,
    identify_visitor,
)
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import (
    contact_lookup,
    contact_reader,
    exposures,
    site_sources,
)

CHANNEL = "onsite"


class OnsiteRequest(msgspec.Struct, frozen=True):
    """A page's request for content; with `show` the offer counts as an exposure."""

    visitor: Visitor
    types: tuple[str, ...] = ()
    fallback: str | None = None
    show: bool = False


class OnsiteOffer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content to show, or None. Contact and reasons are for proven visitors only."""

    content: str | None
    type: str | None = None
    title: str | None = None
    url: str | None = None
    summary: str | None = None
    proven: bool = False
    contact_id: ContactId | None = None
    reasons: Sequence[str] = ()


class OnsiteService:
    """Chooses content for pages."""

    def __init__(
        self, sessions: SessionPool, registry: PlayRegistry, keys: tuple[str, ...], clock: Clock
    ) -> None:
        """`keys` sign the personal links in messages."""
        self._sessions = sessions
        self._registry = registry
        self._keys = keys
        self._clock = clock

    async def get_offer(
        self, write_key: str | None, origin: str | None, request: OnsiteRequest
    ) -> OnsiteOffer:
        """Return the offer of now; equal inputs give equal offers.

        Raises UnknownWriteKey, OriginNotAllowed.
        """
        async with self._sessions.acquire() as connection, unit_of_work(connection):
            site = await site_sources.get_by_write_key(connection, write_key) if write_key else None
            if site is None:
                raise UnknownWriteKey
            if not site.allows(origin):
                raise OriginNotAllowed(f"{site.source} takes nothing from {origin!r:.200}")
            identifier = identify_visitor(request.visitor, site, self._keys, self._clock.now())
            return await self._choose(connection, site, identifier, request)

    async def _choose(
        self,
        connection: Connection,
        site: SiteSource,
        identifier: VisitorIdentifier | None,
        request: OnsiteRequest,
    ) -> OnsiteOffer:
        snapshot = await self._registry.get_snapshot(connection)
        contact = (
            await contact_lookup.find_by_identifier(
                connection, site.workspace, identifier.kind, identifier.value
            )
            if identifier
            else None
        )
        facts = (
            (await contact_reader.get_facts(connection, [contact], snapshot.vocabulary))[contact]
            if contact
            else ContactFacts(ContactId(""))
        )
        is_proven = identifier is not None and identifier.verified and contact is not None
        items = [
            item
            for item in snapshot.contents.get(site.workspace, ())
            if is_proven or not item.personal
        ]
        choice = choose_content(items, facts, CHANNEL, request.types, request.fallback)
        if request.show and contact and choice.item is not None:
            await exposures.upsert_exposures(
                connection, [(contact, choice.item.content, self._clock.now())]
            )
        if is_proven:
            return _to_offer(choice.item, contact, choice.reasons)
        return _to_offer(choice.item, None, ())


def _to_offer(
    item: ContentItem | None, contact: ContactId | None, reasons: Sequence[str]
) -> OnsiteOffer:
    """Return an offer; `contact` is None unless the visitor is proven."""
    is_proven = contact is not None
    if item is None:
        return OnsiteOffer(None, proven=is_proven, contact_id=contact, reasons=reasons)
    return OnsiteOffer(
        item.content,
        item.type,
        item.title,
        item.url,
        item.summary or None,
        is_proven,
        contact,
        reasons,
    )
