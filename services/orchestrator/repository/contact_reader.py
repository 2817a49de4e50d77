"""Contacts when a decision is made: canonical ids, the decision lock, and the facts.

Each decision about a contact is made under the lock of its row in `orchestrator.people`. Rows are
locked in order of their ids. So no two processes enroll, advance or send for one contact at once.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from services.orchestrator.domain.ad_audience import hash_email
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.repository import consents, exposures, scoring_views, seen_signals
from services.orchestrator.repository.costly_facts import CostlyFacts, get_costly_facts


async def get_survivors(
    connection: Connection, contacts: Collection[ContactId]
) -> dict[ContactId, ContactId]:
    """Return the canonical id of each contact: the survivor of its merge, or its own id."""
    rows = await connection.fetch(
        "SELECT contact_id, merged_into FROM scoring.contact_profiles "
        "WHERE contact_id = ANY($1::text[]) AND merged_into IS NOT NULL",
        list(contacts),
    )
    survivors = {r[0]: r[1] for r in rows}
    return {contact: survivors.get(contact, contact) for contact in contacts}


async def get_aliases(
    connection: Connection, ids: Collection[ContactId]
) -> dict[ContactId, ContactId]:
    """Return {alias: canonical id} of canonical ids, each of them included.

    Rows that were stored under a merged id stay there, so they are read under all aliases.
    """
    rows = await connection.fetch(
        "SELECT contact_id, merged_into FROM scoring.contact_profiles "
        "WHERE merged_into = ANY($1::text[])",
        list(ids),
    )
    return {**{contact: contact for contact in ids}, **{r[0]: r[1] for r in rows}}


async def lock_contacts(
    connection: Connection, contacts: Collection[ContactId], *, limit: int | None = None
) -> set[ContactId]:
    """Lock contacts, in order of their ids, until the transaction ends; return the locked ids.

    With `limit`, at most so many contacts are locked, and contacts are skipped that another
    transaction has locked.
    """
    ids = sorted(contacts)
    await connection.execute(
        "INSERT INTO orchestrator.people (contact_id) SELECT * FROM unnest($1::text[]) "
        "ON CONFLICT DO NOTHING",
        ids,
    )
    rows = await connection.fetch(
        "SELECT contact_id FROM orchestrator.people WHERE contact_id = ANY($1::text[]) "
        "ORDER BY contact_id LIMIT $2 FOR UPDATE" + ("" if limit is None else " SKIP LOCKED"),
        ids,
        limit,
    )
    return {r[0] for r in rows}


async def get_facts(
    connection: Connection,
    contacts: Collection[ContactId],
    vocabulary: CycleVocabularies,
    *,
    with_costly: bool = False,
) -> dict[ContactId, ContactFacts]:
    """Return the facts by the given ids; a merged id gets its survivor's facts.

    Costly facts are read with `with_costly`, or if a play in use needs them.
    """
    canonical = await get_survivors(connection, contacts)
    ids = sorted(set(canonical.values()))
    aliases = await get_aliases(connection, ids)
    traits = await scoring_views.get_traits(connection, ids)
    standings, last_acts = await scoring_views.get_standings(connection, ids, vocabulary)
    signals = await seen_signals.get_instants(connection, aliases)
    granted = await consents.get_consents(connection, aliases)
    suppressed = await consents.get_suppressions(connection, aliases)
    addresses = {
        contact: (workspace, hash_email(values.get("email")))
        for contact, (workspace, values) in traits.items()
    }
    suppressed_addresses = await consents.get_address_suppressions(
        connection, set(addresses.values())
    )
    identifiers, verified = await scoring_views.get_identifiers(connection, ids)
    last_shown = await exposures.get_last_shown(connection, aliases)
    costly = (
        await get_costly_facts(connection, aliases)
        if with_costly or vocabulary.needs_costly_facts
        else CostlyFacts()
    )
    facts = {}
    for contact in ids:
        by_type = identifiers.get(contact, {})
        address_reason = suppressed_addresses.get(addresses.get(contact, ("", "")))
        facts[contact] = ContactFacts(
            contact,
            traits.get(contact, ("", {}))[1],
            standings.get(contact, {}),
            signals.get(contact, {}),
            last_acts.get(contact),
            granted.get(contact, {}),
            _with_address_reason(suppressed.get(contact, {}), address_reason),
            by_type.get("user_id"),
            by_type.get("anonymous_id"),
            {
                kind.partition(":")[2]: value
                for kind, value in by_type.items()
                if kind.startswith("external:")
            },
            last_shown.get(contact, {}),
            frozenset(verified.get(contact, ())),
            costly.last_touches.get(contact),
            contact in costly.planned,
            frozenset(costly.open_events.get(contact, ())),
        )
    return {contact: facts[canonical[contact]] for contact in contacts}


def _with_address_reason(
    suppressed: Mapping[str, str], address_reason: str | None
) -> Mapping[str, str]:
    """Return the suppressions by channel; the contact's own reason wins over the address's."""
    return {"email": address_reason, **suppressed} if address_reason else suppressed


async def get_profiles(
    connection: Connection, ids: Sequence[ContactId]
) -> dict[ContactId, tuple[dict[str, Any], str | None]]:
    """Return (traits, user id) of contacts."""
    traits = await scoring_views.get_traits(connection, ids)
    identifiers, _ = await scoring_views.get_identifiers(connection, ids)
    return {
        contact: (
            traits.get(contact, ("", {}))[1],
            identifiers.get(contact, {}).get("user_id"),
        )
        for contact in ids
    }
