"""Facts that are read only where a condition of a costly kind asks for them."""

from collections.abc import Mapping

import msgspec

from libs.common.db.connection import Connection
from libs.common.ids import ContactId


class CostlyFacts(msgspec.Struct):
    """Costly facts by canonical contact id."""

    last_touches: dict[str, int] = {}
    """Instant of the last touchpoint of any initiative (µs UTC)."""
    planned: set[str] = set()
    """Contacts with an active enrollment or an open action towards the contact."""
    open_events: dict[str, set[str]] = {}
    """Kinds of the open compelling events of the contact and its accounts."""


async def get_costly_facts(
    connection: Connection, aliases: Mapping[ContactId, ContactId]
) -> CostlyFacts:
    """Return the costly facts; `aliases` are all ids of the contacts with their canonical ids."""
    facts, ids = CostlyFacts(), list(aliases)
    for contact, last_at in await connection.fetch(
        "SELECT contact_id, last_at FROM scoring.contact_touches "
        "WHERE contact_id = ANY($1::text[]) AND last_at IS NOT NULL",
        ids,
    ):
        canonical = aliases[contact]
        facts.last_touches[canonical] = max(last_at, facts.last_touches.get(canonical, 0))
    planned = await connection.fetch(
        "SELECT contact_id FROM orchestrator.enrollments "
        "WHERE contact_id = ANY($1::text[]) AND status = 'active' "
        "UNION SELECT contact_id FROM orchestrator.actions WHERE contact_id = ANY($1::text[]) "
        # A message to colleagues or to an advertiser is no step with the contact.
        "AND status IN ('pending', 'held', 'sending') "
        "AND channel IN ('email', 'crm_task', 'kafka')",
        ids,
    )
    facts.planned = {aliases[r[0]] for r in planned}
    for contact, kind in await connection.fetch(
        "SELECT subject, kind FROM scoring.open_events WHERE subject = ANY($1::text[]) UNION "
        "SELECT m.contact_id, e.kind FROM scoring.account_members m "
        "JOIN scoring.open_events e ON e.subject = m.account_id "
        "WHERE m.contact_id = ANY($1::text[])",
        ids,
    ):
        facts.open_events.setdefault(aliases[contact], set()).add(kind)
    return facts
