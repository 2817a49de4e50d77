"""Accounts, who may count for them, their queue, and their histories."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.messages import Touchpoint
from services.scoring.domain.account_membership import MembershipTracker, group_id_of
from services.scoring.domain.correction import apply_verdicts
from services.scoring.domain.identity import Key
from services.scoring.repository import corrections
from services.scoring.repository.identity import LockedContact, MovedTouchpoint
from services.scoring.repository.touchpoint_history import FIRST_KEY, ContactHistory

_decode = msgspec.json.Decoder(Touchpoint).decode


class AccountRefold(msgspec.Struct, frozen=True):
    """What an account's queue says: why, and from which key on."""

    reason: str
    start: Key


async def upsert_memberships(
    connection: Connection, fresh: Sequence[tuple[Touchpoint, str]]
) -> None:
    """Note the accounts that touchpoints name, and their contacts as possible members."""
    named = sorted(
        {
            (account, t.workspace, t.group_id or "", c)
            for t, c in fresh
            if (account := group_id_of(t))
        }
    )
    if named:
        accounts = sorted({row[:3] for row in named})
        await connection.execute(
            "INSERT INTO scoring.accounts (account_id, workspace, group_id) "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING",
            *(list(column) for column in zip(*accounts, strict=True)),
        )
        await connection.execute(
            "INSERT INTO scoring.memberships (account_id, contact_id) SELECT * FROM unnest($1::text[], $2::text[]) "
            "ON CONFLICT DO NOTHING",
            [row[0] for row in named],
            [row[3] for row in named],
        )


async def insert_moved_memberships(
    connection: Connection, moved: Iterable[MovedTouchpoint]
) -> None:
    """Let the contacts to which touchpoints moved count for the accounts that they came from."""
    pairs = sorted({(m.old, m.new) for m in moved})
    if pairs:
        await connection.execute(
            "INSERT INTO scoring.memberships (account_id, contact_id) SELECT DISTINCT m.account_id, w.new "
            "FROM unnest($1::text[], $2::text[]) AS w (old, new) JOIN scoring.memberships m ON m.contact_id = w.old "
            "ORDER BY 1, 2 ON CONFLICT DO NOTHING",
            [old for old, _ in pairs],
            [new for _, new in pairs],
        )


async def enqueue_members(connection: Connection, since: Mapping[str, Key], reason: str) -> None:
    """Queue the accounts of contacts whose touchpoints changed from a key on."""
    if since:
        await connection.execute(
            "INSERT INTO scoring.account_refolds (account_id, reason, from_at, from_source, from_message_id) "
            "SELECT DISTINCT ON (m.account_id) m.account_id, $5, w.at, w.source, w.message_id "
            "FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) AS w (contact_id, at, source, message_id) "
            "JOIN scoring.memberships m USING (contact_id) ORDER BY m.account_id, w.at, w.source, w.message_id",
            list(since),
            [key[0] for key in since.values()],
            [key[1] for key in since.values()],
            [key[2] for key in since.values()],
            reason,
        )


async def enqueue_all(connection: Connection, reason: str) -> None:
    """Queue every account from its first touchpoint."""
    await connection.execute(
        "INSERT INTO scoring.account_refolds (account_id, reason, from_at, from_source, from_message_id) "
        "SELECT account_id, $1, -1, '', '' FROM scoring.accounts",
        reason,
    )


async def list_queued(connection: Connection, limit: int) -> list[str]:
    """Return queued accounts, those that wait longest first."""
    rows = await connection.fetch(
        "SELECT account_id FROM (SELECT account_id, min(id) AS first FROM scoring.account_refolds GROUP BY 1) q "
        "ORDER BY first LIMIT $1",
        limit,
    )
    return [r[0] for r in rows]


async def lock_accounts(
    connection: Connection, accounts: Iterable[str]
) -> dict[str, LockedContact]:
    """Lock the accounts' rows in id order; those that somebody else works on are left out."""
    rows = await connection.fetch(
        "SELECT account_id, workspace FROM scoring.accounts WHERE account_id = ANY($1::text[]) "
        "ORDER BY account_id FOR UPDATE SKIP LOCKED",
        sorted(accounts),
    )
    return {r[0]: LockedContact(r[1], 0, 0, None, None) for r in rows}


async def dequeue_accounts(
    connection: Connection, accounts: Iterable[str]
) -> dict[str, AccountRefold]:
    """Take the locked accounts' entries out of the queue; several are one, from the least key."""
    rows = await connection.fetch(
        "DELETE FROM scoring.account_refolds WHERE account_id = ANY($1::text[]) "
        "RETURNING account_id, reason, from_at, from_source, from_message_id",
        sorted(accounts),
    )
    found: dict[str, AccountRefold] = {}
    for account, reason, *key in rows:
        due = AccountRefold(reason, (key[0], key[1], key[2]))
        other = found.get(account, due)
        found[account] = AccountRefold(
            max(reason, other.reason, key=_weight), min(due.start, other.start)
        )
    return found


def _weight(reason: str) -> int:
    """Return how much a reason says; one that is named outdoes `touchpoint`."""
    return (
        "touchpoint",
        "identity_merge",
        "identity_unmerge",
        "corrected",
        "cycle_published",
    ).index(reason)


async def get_group_ids(connection: Connection, accounts: Iterable[str]) -> dict[str, str]:
    """Return the senders' names of the accounts."""
    rows = await connection.fetch(
        "SELECT account_id, group_id FROM scoring.accounts WHERE account_id = ANY($1::text[])",
        sorted(accounts),
    )
    return {r[0]: r[1] for r in rows}


async def get_histories(
    connection: Connection, since: Mapping[str, Key | None]
) -> dict[str, ContactHistory]:
    """Return the accounts' histories after their keys: the touchpoints of members that count for them."""
    return {
        account: await _history(connection, account, key or FIRST_KEY)
        for account, key in since.items()
    }


async def _history(connection: Connection, account: str, after: Key) -> ContactHistory:
    rows = await connection.fetch(
        "SELECT m.contact_id, t.data FROM scoring.memberships m JOIN scoring.touchpoints t USING (contact_id) "
        "WHERE m.account_id = $1 AND t.occurred_at >= $2 AND (t.occurred_at, t.source, t.message_id) > ($2, $3, $4) "
        "UNION ALL SELECT t.contact_id, t.data FROM scoring.touchpoints t WHERE t.account_id = $1 "
        "AND (t.occurred_at, t.source, t.message_id) <= ($2, $3, $4)",
        account,
        *after,
    )
    by_contact: dict[str, list[Touchpoint]] = {}
    for contact, data in rows:
        by_contact.setdefault(contact, []).append(_decode(data))
    verdicts = await corrections.get_verdicts(connection, by_contact)
    kept = [
        (t.key, c, t)
        for c, found in by_contact.items()
        for t in apply_verdicts(found, verdicts.get(c, {}))
    ]
    members, counting = MembershipTracker({}), []
    for key, contact, touchpoint in sorted(kept, key=_by_key):
        if account in members.add_touchpoint(contact, touchpoint) and key > after:
            counting.append(touchpoint)
    return ContactHistory(counting, ())


def _by_key(one: tuple[Key, str, Touchpoint]) -> Key:
    return one[0]
