"""Accounts, their possible members, their re-fold queue and their histories."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import notify, with_notification
from libs.common.ids import ContactId
from libs.common.messages import Touchpoint
from services.scoring.domain.account_membership import MembershipTracker, account_id_of
from services.scoring.domain.correction import apply_verdicts
from services.scoring.domain.identity import Key
from services.scoring.repository import corrections
from services.scoring.repository.identity import LockedContact
from services.scoring.repository.touchpoint_history import FIRST_KEY, ContactHistory
from services.scoring.repository.touchpoint_reassignment import MovedTouchpoint

REFOLDS_CHANNEL = "scoring_account_refolds"
"""Notified when accounts are queued for a refold."""
_decode = msgspec.json.Decoder(Touchpoint).decode


class AccountRefold(msgspec.Struct, frozen=True):
    """An account in the re-fold queue: the reason, and the first touchpoint key to fold again."""

    reason: str
    start: Key


async def upsert_memberships(
    connection: Connection, stored: Sequence[tuple[Touchpoint, str]]
) -> None:
    """Insert the accounts that touchpoints name, and the touchpoints' contacts as possible members.

    `stored` has (touchpoint, contact id). Rows that exist already are left alone.
    """
    memberships = sorted(
        {
            (account, touchpoint.workspace, touchpoint.group_id or "", contact)
            for touchpoint, contact in stored
            if (account := account_id_of(touchpoint))
        }
    )
    if memberships:
        accounts = sorted({membership[:3] for membership in memberships})
        await connection.execute(
            "INSERT INTO scoring.accounts (account_id, workspace, group_id) "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING",
            *(list(column) for column in zip(*accounts, strict=True)),
        )
        await connection.execute(
            "INSERT INTO scoring.memberships (account_id, contact_id) "
            "SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING",
            [membership[0] for membership in memberships],
            [membership[3] for membership in memberships],
        )


async def insert_moved_memberships(
    connection: Connection, moved: Iterable[MovedTouchpoint]
) -> None:
    """Make the new contacts of moved touchpoints members of the accounts of the old contacts."""
    pairs = sorted({(m.old, m.new) for m in moved})
    if pairs:
        await connection.execute(
            "INSERT INTO scoring.memberships (account_id, contact_id) "
            "SELECT DISTINCT m.account_id, w.new "
            "FROM unnest($1::text[], $2::text[]) AS w (old, new) "
            "JOIN scoring.memberships m ON m.contact_id = w.old "
            "ORDER BY 1, 2 ON CONFLICT DO NOTHING",
            [old for old, _ in pairs],
            [new for _, new in pairs],
        )


async def enqueue_accounts_of(
    connection: Connection, since: Mapping[ContactId, Key], reason: str
) -> None:
    """Queue the accounts of contacts; `since` has the first changed key of each contact.

    An account with several of these contacts is queued once, from the earliest key.
    """
    if since:
        statement = (
            "INSERT INTO scoring.account_refolds "
            "(account_id, reason, from_at, from_source, from_message_id) "
            "SELECT DISTINCT ON (m.account_id) m.account_id, $5, w.at, w.source, w.message_id "
            "FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) "
            "AS w (contact_id, at, source, message_id) "
            "JOIN scoring.memberships m USING (contact_id) "
            "ORDER BY m.account_id, w.at, w.source, w.message_id"
        )
        await connection.execute(
            with_notification(statement, REFOLDS_CHANNEL),
            list(since),
            [key[0] for key in since.values()],
            [key[1] for key in since.values()],
            [key[2] for key in since.values()],
            reason,
        )


async def enqueue_all(connection: Connection, reason: str) -> None:
    """Queue every account from its first touchpoint."""
    await connection.execute(
        "INSERT INTO scoring.account_refolds "
        "(account_id, reason, from_at, from_source, from_message_id) "
        "SELECT account_id, $1, -1, '', '' FROM scoring.accounts",
        reason,
    )
    await notify(connection, REFOLDS_CHANNEL)


async def list_queued(connection: Connection, limit: int) -> list[ContactId]:
    """Return queued accounts, longest waiting first. Locks nothing."""
    rows = await connection.fetch(
        "SELECT account_id FROM "
        "(SELECT account_id, min(id) AS first FROM scoring.account_refolds GROUP BY 1) q "
        "ORDER BY first LIMIT $1",
        limit,
    )
    return [r[0] for r in rows]


async def has_queued(connection: Connection) -> bool:
    """Return whether an account is queued."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM scoring.account_refolds)"))


async def lock_accounts(
    connection: Connection, accounts: Iterable[ContactId]
) -> dict[ContactId, LockedContact]:
    """Lock the accounts' rows in id order; rows locked by another transaction are skipped."""
    rows = await connection.fetch(
        "SELECT account_id, workspace FROM scoring.accounts WHERE account_id = ANY($1::text[]) "
        "ORDER BY account_id FOR UPDATE SKIP LOCKED",
        sorted(accounts),
    )
    return {r[0]: LockedContact(r[1], 0, 0, None, None) for r in rows}


async def dequeue_accounts(
    connection: Connection, accounts: Iterable[ContactId]
) -> dict[ContactId, AccountRefold]:
    """Delete the accounts' queue entries and return them, one per account.

    Several entries of an account become one: the earliest key and the strongest reason. The caller
    has locked the accounts.
    """
    rows = await connection.fetch(
        "DELETE FROM scoring.account_refolds WHERE account_id = ANY($1::text[]) "
        "RETURNING account_id, reason, from_at, from_source, from_message_id",
        sorted(accounts),
    )
    refolds: dict[ContactId, AccountRefold] = {}
    for account, reason, *key in rows:
        entry = AccountRefold(reason, (key[0], key[1], key[2]))
        earlier = refolds.get(account, entry)
        refolds[account] = AccountRefold(
            max(reason, earlier.reason, key=_reason_rank), min(entry.start, earlier.start)
        )
    return refolds


def _reason_rank(reason: str) -> int:
    """Return the rank of a reason; any explicit reason outranks `touchpoint`."""
    return (
        "touchpoint",
        "identity_merge",
        "identity_unmerge",
        "corrected",
        "cycle_published",
    ).index(reason)


async def get_group_ids(
    connection: Connection, accounts: Iterable[ContactId]
) -> dict[ContactId, str]:
    """Return the group id, as sent by the sources, of each account."""
    rows = await connection.fetch(
        "SELECT account_id, group_id FROM scoring.accounts WHERE account_id = ANY($1::text[])",
        sorted(accounts),
    )
    return {r[0]: r[1] for r in rows}


async def get_histories(
    connection: Connection, since: Mapping[ContactId, Key | None]
) -> dict[ContactId, ContactHistory]:
    """Return the accounts' histories after their keys: the touchpoints that count for each account.

    None stands for the whole history.
    """
    return {
        account: await _get_history(connection, account, key or FIRST_KEY)
        for account, key in since.items()
    }


async def _get_history(connection: Connection, account: ContactId, after: Key) -> ContactHistory:
    """Return the account's history after a key.

    Read are all touchpoints of possible members after the key, and before it only the ones that
    change a membership of this account. Corrections apply before memberships are computed.
    """
    rows = await connection.fetch(
        "SELECT m.contact_id, t.data FROM scoring.memberships m "
        "JOIN scoring.touchpoints t USING (contact_id) "
        "WHERE m.account_id = $1 AND t.occurred_at >= $2 "
        "AND (t.occurred_at, t.source, t.message_id) > ($2, $3, $4) "
        "UNION ALL SELECT t.contact_id, t.data FROM scoring.touchpoints t WHERE t.account_id = $1 "
        "AND (t.occurred_at, t.source, t.message_id) <= ($2, $3, $4)",
        account,
        *after,
    )
    by_contact: dict[ContactId, list[Touchpoint]] = {}
    for contact, data in rows:
        by_contact.setdefault(contact, []).append(_decode(data))
    verdicts = await corrections.get_verdicts(connection, by_contact)
    effective = [
        (touchpoint.key, contact, touchpoint)
        for contact, touchpoints in by_contact.items()
        for touchpoint in apply_verdicts(touchpoints, verdicts.get(contact, {}))
    ]
    members, counting = MembershipTracker({}), []
    for key, contact, touchpoint in sorted(effective, key=_by_key):
        if account in members.add_touchpoint(contact, touchpoint) and key > after:
            counting.append(touchpoint)
    return ContactHistory(counting, ())


def _by_key(item: tuple[Key, str, Touchpoint]) -> Key:
    return item[0]
