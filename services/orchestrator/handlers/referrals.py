"""Recommendations: who came by whose code, and telling of the one who recommended when the friend has bought.

The referrer moves by a touchpoint of their own. Its `messageId` hashes what the friend did, so it is told once; a correction of
that takes it away with it (`services.scoring.handlers.corrections`).
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
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
    actions,
    contact_lookup,
    contact_reader,
    published_history,
    referrals,
)
from services.orchestrator.repository.referrals import Referral


class ReferralView(msgspec.Struct, frozen=True):
    """A referral as it is listed."""

    referrer: str | None
    friend: str
    code: str
    came_at: str
    status: str
    reason: str


class ReferralCode(msgspec.Struct, frozen=True):
    """What a contact gives to friends."""

    contact_id: str
    code: str
    url: str


async def store_referrals(
    connection: Connection, vocabulary: CycleVocabularies, signals: Sequence[Signal], now: int
) -> None:
    """Note who came by a friend's code, and settle the referrals of those who bought.

    History is nobody's merit, nor is what anybody may say of themselves: a server has to tell of the purchase.
    """
    fresh = [signal for signal in signals if not signal.historical]
    came = [
        (
            s.contact_id,
            s.workspace,
            code,
            max(s.occurred_at, s.received_at - DAY),
        )  # whoever comes may say any instant
        for s in fresh
        if s.signal == REFERRED_SIGNAL
        and (code := parse_code(s.properties.get(CODE_PROPERTY))) is not None
    ]
    new = await referrals.insert_referrals(connection, came)
    successes = {words.success for words in vocabulary.cycles.values() if words.success}
    since = min((at for contact, _, _, at in came if contact in new), default=now)
    earlier = await _heard_before(connection, new, since) if new else []
    bought = [
        s
        for s in (*fresh, *earlier)
        if s.signal in successes and s.trust == "server" and not s.historical
    ]
    if bought:
        await _settle(connection, vocabulary, bought, now)


async def _heard_before(
    connection: Connection, contacts: Collection[str], since: int
) -> list[Signal]:
    """Return the signals of contacts since an instant: a purchase may have been heard before the visit that led to it."""
    relatives = await contact_reader.get_aliases(
        connection, set((await contact_reader.get_survivors(connection, contacts)).values())
    )
    rows = await published_history.list_recent(connection, list(relatives), since)
    return [decode_value(Signal, value) for _, kind, value in rows if kind == Signal.KIND]


async def _settle(
    connection: Connection, vocabulary: CycleVocabularies, bought: Sequence[Signal], now: int
) -> None:
    to = await contact_reader.get_survivors(connection, {signal.contact_id for signal in bought})
    relatives = await contact_reader.get_aliases(connection, set(to.values()))
    of_friend: dict[str, list[Referral]] = {}
    for one in await referrals.list_for_update(connection, relatives):
        of_friend.setdefault(relatives[one.contact_id], []).append(one)
    of_friend = {
        friend: found
        for friend, found in of_friend.items()
        if any(one.status == "open" for one in found)
    }
    if not of_friend:
        return
    mine = [s for s in bought if to[s.contact_id] in of_friend]
    places = [(s.id, s.workspace, s.occurred_at, s.source, s.message_id) for s in mine]
    gone = await referrals.list_corrected(connection, places)
    givers = await _givers(connection, [one for found in of_friend.values() for one in found])
    known = await contact_reader.get_facts(connection, {*of_friend, *givers.values()}, vocabulary)
    devices = await contact_lookup.get_devices(
        connection, [facts.contact_id for facts in known.values()]
    )
    settled, told = list[tuple[str, str, str]](), list[bytes]()
    for friend, found in of_friend.items():
        still = (s for s in mine if to[s.contact_id] == friend and s.id not in gone)
        causes = sorted(still, key=lambda s: s.occurred_at)
        taken = any(one.status == "converted" for one in found)
        for one in found:
            cause = next((s for s in causes if s.occurred_at >= one.came_at), None)
            if one.status != "open" or cause is None:
                continue
            referrer = (
                known[givers[one.workspace, one.code]]
                if (one.workspace, one.code) in givers
                else None
            )
            status, reason, body = _judged(
                one, cause, referrer, known[friend], devices, taken=taken
            )
            taken = taken or status == "converted"
            settled.append((one.contact_id, status, reason))
            told += [body] if body is not None else []
    await referrals.update_outcomes(connection, settled, now)
    await actions.insert_echoes(connection, told)


async def _givers(connection: Connection, found: Sequence[Referral]) -> dict[tuple[str, str], str]:
    """Return by (workspace, code) whose code it is."""
    givers: dict[tuple[str, str], str] = {}
    for workspace in {one.workspace for one in found}:
        owners = await referrals.get_code_owners(
            connection, workspace, {one.code for one in found if one.workspace == workspace}
        )
        givers |= {(workspace, code): contact for code, contact in owners.items()}
    return givers


def _judged(
    one: Referral,
    cause: Signal,
    referrer: ContactFacts | None,
    friend: ContactFacts,
    devices: Mapping[str, set[str]],
    *,
    taken: bool,
) -> tuple[str, str, bytes | None]:
    """Return (status, reason, touchpoint of the referrer) of a referral whose friend has bought."""
    if taken or referrer is None:
        return "refused", "another friend came first" if taken else "unknown code", None
    shared = devices.get(referrer.contact_id, set()) & devices.get(friend.contact_id, set())
    reason = referral_fault(referrer, friend, cause.signal, one.came_at, same_device=bool(shared))
    if not reason and not friend.user_id and not friend.verified_emails:
        return "open", "nobody knows the friend yet", None
    body = None if reason else referral_touchpoint(referrer, cause, one.code)
    if body is None:
        return "refused", reason or "the referrer has no id that the door takes", None
    return "converted", cause.signal, body


class ReferralService:
    """Gives out codes and lists what came of them."""

    def __init__(self, session: Session, links: MessageLinks, clock: Clock) -> None:
        self._session = session
        self._links = links
        self._clock = clock

    async def issue_code(self, workspace: str, who: str) -> ReferralCode:
        """Return a contact's code and link. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            contact = await contact_lookup.get_contact_id(connection, workspace, who)
            code = self._links.referral_code(workspace, contact)
            await referrals.insert_codes(connection, [(workspace, code, contact)])
        return ReferralCode(contact, code, self._links.referral_url(code))

    async def list_referrals(self, workspace: str, limit: int) -> list[ReferralView]:
        """Return a workspace's referrals, those who came last first."""
        async with self._session.acquire() as connection:
            found = await referrals.list_referrals(connection, workspace, limit)
        return [
            ReferralView(giver, r.contact_id, r.code, to_iso(r.came_at), r.status, r.reason)
            for r, giver in found
        ]

    async def landing_url(self, code: str, path: str) -> str | None:
        """Return where a friend's link leads: a path of the site, with the code if it is one; None without a site."""
        async with self._session.acquire() as connection:
            known = await referrals.code_exists(connection, code)
        return self._links.landing_url(code if known else None, path)
