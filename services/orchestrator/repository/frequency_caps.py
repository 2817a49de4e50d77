"""Frequency caps: messages per contact, channel and UTC day."""

from collections.abc import Collection, Mapping

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from libs.common.instants import DAY

DAYS_PER_WEEK = 7


async def count_sent(
    connection: Connection,
    contacts: Mapping[ContactId, Collection[ContactId]],
    channel: str,
    now: int,
) -> dict[ContactId, tuple[int, int]]:
    """Return the messages to each contact on a channel: (today, the last seven days).

    `contacts` maps canonical ids to all their aliases. The caller has locked the contacts, so the
    counts do not change until its transaction ends.
    """
    canonical_ids = {alias: contact for contact, aliases in contacts.items() for alias in aliases}
    rows = await connection.fetch(
        "SELECT contact_id, day, used FROM orchestrator.caps "
        "WHERE contact_id = ANY($1::text[]) AND channel = $2 AND day > $3",
        list(canonical_ids),
        channel,
        now // DAY - DAYS_PER_WEEK,
    )
    sent = dict.fromkeys(contacts, (0, 0))
    for alias, day, count in rows:
        contact = canonical_ids[alias]
        today, week = sent[contact]
        sent[contact] = (today + (count if day == now // DAY else 0), week + count)
    return sent


async def upsert_cap_counts(
    connection: Connection, sent: Mapping[str, int], channel: str, now: int
) -> None:
    """Add messages by contact to the counts of today."""
    if sent:
        await connection.execute(
            "INSERT INTO orchestrator.caps (contact_id, channel, day, used) SELECT c, $3, $4, n "
            "FROM unnest($1::text[], $2::int[]) AS u (c, n) "
            "ON CONFLICT (contact_id, channel, day) DO UPDATE SET used = caps.used + excluded.used",
            list(sent),
            list(sent.values()),
            channel,
            now // DAY,
        )
