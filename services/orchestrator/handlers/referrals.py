"""Referrals: arrivals by a friend's code, and the credit of referrers after the first purchase.

The referrer moves by its own touchpoint. The `messageId` is derived from the friend's purchase, so
it counts once. A correction of the purchase withdraws it (`services.scoring.handlers.corrections`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import DAY, to_iso
from libs.common.messages import Signal, decode_value
from services.orchestrator.domain.contact_facts import ContactFacts
from services.orchestrator.domain.cycle_vocabulary import CycleVocabularies
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.domain.referral import (
    CODE_PROPERTY,
    REFERRED_SIGNAL,
    parse_code,
    referral_fault,
)
from services.orchestrator.handlers.action_messages import referral_touchpoint
from services.orchestrator.repository import (
    contact_lookup,
    contact_reader,
    echoes,
    published_history,
    referrals,
)
from services.orchestrator.repository.referrals import Referral


class ReferralView(msgspec.Struct, frozen=True):
    """A referral as the admin API returns it; `came_at` is RFC 3339."""

    referrer: ContactId | None
    friend: ContactId
    code: str
    came_at: str
    status: str
    reason: str


class ReferralCode(msgspec.Struct, frozen=True):
    """A contact's code, and the link with it for friends."""

    contact_id: ContactId
    code: str
    url: str


async def store_referrals(
    connection: Connection, vocabulary: CycleVocabularies, signals: Sequence[Signal], now: int
) -> None:
    """Store arrivals by a code, and conclude the referrals of contacts that have purchased.

    Historical signals count for neither. A purchase has to come from a trusted server.
    """
    fresh = [signal for signal in signals if not signal.historical]
    arrivals = [
        # A visitor may claim any instant: the arrival is at most a day before its receipt.
        (s.contact_id, s.workspace, code, max(s.occurred_at, s.received_at - DAY))
        for s in fresh
        if s.signal == REFERRED_SIGNAL
        and (code := parse_code(s.properties.get(CODE_PROPERTY))) is not None
    ]
    new = await referrals.insert_referrals(connection, arrivals)
    successes = {names.success for names in vocabulary.cycles.values() if names.success}
    since = min((at for contact, _, _, at in arrivals if contact in new), default=now)
    earlier = await _list_earlier_signals(connection, new, since) if new else []
    purchases = [
        s
        for s in (*fresh, *earlier)
        if s.signal in successes and s.trust == "server" and not s.historical
    ]
    if purchases:
        await _conclude(connection, vocabulary, purchases, now)


async def _list_earlier_signals(
    connection: Connection, contacts: Collection[ContactId], since: int
) -> list[Signal]:
    """Return the signals since an instant: a purchase may be consumed before its visit."""
    survivors = await contact_reader.get_survivors(connection, contacts)
    aliases = await contact_reader.get_aliases(connection, set(survivors.values()))
    rows = await published_history.list_recent(connection, list(aliases), since)
    return [decode_value(Signal, value) for _, kind, value in rows if kind == Signal.KIND]


async def _conclude(
    connection: Connection, vocabulary: CycleVocabularies, purchases: Sequence[Signal], now: int
) -> None:
    """Convert or refuse the open referrals of friends that have purchased."""
    survivors = await contact_reader.get_survivors(
        connection, {signal.contact_id for signal in purchases}
    )
    by_friend = await _lock_open_referrals(connection, set(survivors.values()))
    if not by_friend:
        return
    purchases = [s for s in purchases if survivors[s.contact_id] in by_friend]
    keys = [(s.id, s.workspace, s.occurred_at, s.source, s.message_id) for s in purchases]
    corrected = await referrals.list_corrected(connection, keys)
    owners = await _get_code_owners(
        connection, [referral for rows in by_friend.values() for referral in rows]
    )
    facts = await contact_reader.get_facts(connection, {*by_friend, *owners.values()}, vocabulary)
    devices = await contact_lookup.get_devices(
        connection, [of_contact.contact_id for of_contact in facts.values()]
    )
    outcomes, touchpoints = list[tuple[str, str, str]](), list[bytes]()
    for friend, rows in by_friend.items():
        causes = sorted(
            (s for s in purchases if survivors[s.contact_id] == friend and s.id not in corrected),
            key=lambda s: s.occurred_at,
        )
        is_converted = any(referral.status == "converted" for referral in rows)
        for referral in rows:
            cause = next((s for s in causes if s.occurred_at >= referral.came_at), None)
            if referral.status != "open" or cause is None:
                continue
            owner = owners.get((referral.workspace, referral.code))
            status, reason, touchpoint = _evaluate(
                referral,
                cause,
                facts[owner] if owner is not None else None,
                facts[friend],
                devices,
                is_converted=is_converted,
            )
            is_converted = is_converted or status == "converted"
            outcomes.append((referral.contact_id, status, reason))
            touchpoints += [touchpoint] if touchpoint is not None else []
    await referrals.update_outcomes(connection, outcomes, now)
    await echoes.insert_echoes(connection, touchpoints)


async def _lock_open_referrals(
    connection: Connection, friends: Collection[ContactId]
) -> dict[ContactId, list[Referral]]:
    """Lock and return the referrals of the friends that have an open one."""
    aliases = await contact_reader.get_aliases(connection, friends)
    by_friend: dict[ContactId, list[Referral]] = {}
    for referral in await referrals.list_for_update(connection, aliases):
        by_friend.setdefault(aliases[referral.contact_id], []).append(referral)
    return {
        friend: rows
        for friend, rows in by_friend.items()
        if any(referral.status == "open" for referral in rows)
    }


async def _get_code_owners(
    connection: Connection, rows: Iterable[Referral]
) -> dict[tuple[WorkspaceId, str], ContactId]:
    """Return the contacts by (workspace, code)."""
    codes: dict[WorkspaceId, set[str]] = {}
    for referral in rows:
        codes.setdefault(referral.workspace, set()).add(referral.code)
    owners: dict[tuple[WorkspaceId, str], ContactId] = {}
    for workspace, of_workspace in codes.items():
        by_code = await referrals.get_code_owners(connection, workspace, of_workspace)
        owners |= {(workspace, code): contact for code, contact in by_code.items()}
    return owners


def _evaluate(
    referral: Referral,
    cause: Signal,
    referrer: ContactFacts | None,
    friend: ContactFacts,
    devices: Mapping[ContactId, set[str]],
    *,
    is_converted: bool,
) -> tuple[str, str, bytes | None]:
    """Return (status, reason, touchpoint of the referrer) after the friend's purchase.

    `is_converted` is whether another referral of the friend has converted.
    """
    if is_converted or referrer is None:
        return "refused", "another friend came first" if is_converted else "unknown code", None
    shared = devices.get(referrer.contact_id, set()) & devices.get(friend.contact_id, set())
    reason = referral_fault(
        referrer, friend, cause.signal, referral.came_at, same_device=bool(shared)
    )
    if not reason and not friend.user_id and not friend.verified_emails:
        return "open", "nobody knows the friend yet", None
    touchpoint = None if reason else referral_touchpoint(referrer, cause, referral.code)
    if touchpoint is None:
        return "refused", reason or "the referrer has no id that ingest accepts", None
    return "converted", cause.signal, touchpoint


class ReferralService:
    """Issues codes and lists referrals."""

    def __init__(self, session: Session, links: MessageLinks, clock: Clock) -> None:
        self._session = session
        self._links = links
        self._clock = clock

    async def issue_code(self, workspace: WorkspaceId, reference: str) -> ReferralCode:
        """Return a contact's code with its link. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            contact = await contact_lookup.get_contact_id(connection, workspace, reference)
            code = self._links.referral_code(workspace, contact)
            await referrals.insert_codes(connection, [(workspace, code, contact)])
        return ReferralCode(contact, code, self._links.referral_url(code))

    async def list_referrals(self, workspace: WorkspaceId, limit: int) -> list[ReferralView]:
        """Return a workspace's referrals, the latest arrival first."""
        async with self._session.acquire() as connection:
            rows = await referrals.list_referrals(connection, workspace, limit)
        return [
            ReferralView(owner, r.contact_id, r.code, to_iso(r.came_at), r.status, r.reason)
            for r, owner in rows
        ]

    async def landing_url(self, code: str, path: str) -> str | None:
        """Return the target of a friend's link: a path of the site, with the code if it exists.

        None without a configured site.
        """
        async with self._session.acquire() as connection:
            exists = await referrals.code_exists(connection, code)
        return self._links.landing_url(code if exists else None, path)
