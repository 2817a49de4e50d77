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
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.links import Links
from services.orchestrator.domain.referral import CAME, PROPERTY, code_of, refusal
from services.orchestrator.domain.vocabulary import Vocabulary
from services.orchestrator.handlers.telling import referral_touchpoint
from services.orchestrator.repository import actions, history, lookup, people, referrals
from services.orchestrator.repository.referrals import Referral


class Shown(msgspec.Struct, frozen=True):
    """A referral as it is listed."""

    referrer: str | None
    friend: str
    code: str
    came_at: str
    status: str
    reason: str


class Code(msgspec.Struct, frozen=True):
    """What a contact gives to friends."""

    contact_id: str
    code: str
    url: str


async def keep_referrals(connection: Connection, vocabulary: Vocabulary, signals: Sequence[Signal], now: int) -> None:
    """Note who came by a friend's code, and settle the referrals of those who bought.

    History is nobody's merit, nor is what anybody may say of themselves: a server has to tell of the purchase.
    """
    fresh = [signal for signal in signals if not signal.historical]
    came = [
        (s.contact_id, s.workspace, code, max(s.occurred_at, s.received_at - DAY))  # whoever comes may say any instant
        for s in fresh
        if s.signal == CAME and (code := code_of(s.properties.get(PROPERTY))) is not None
    ]
    new = await referrals.note(connection, came)
    successes = {words.success for words in vocabulary.cycles.values() if words.success}
    since = min((at for contact, _, _, at in came if contact in new), default=now)
    earlier = await _heard_before(connection, new, since) if new else []
    bought = [s for s in (*fresh, *earlier) if s.signal in successes and s.trust == "server" and not s.historical]
    if bought:
        await _settle(connection, vocabulary, bought, now)


async def _heard_before(connection: Connection, contacts: Collection[str], since: int) -> list[Signal]:
    """Return the signals of contacts since an instant: a purchase may have been heard before the visit that led to it."""
    relatives = await people.family(connection, set((await people.survivors(connection, contacts)).values()))
    rows = await history.of_keys(connection, list(relatives), since)
    return [decode_value(Signal, value) for _, kind, value in rows if kind == Signal.KIND]


async def _settle(connection: Connection, vocabulary: Vocabulary, bought: Sequence[Signal], now: int) -> None:
    to = await people.survivors(connection, {signal.contact_id for signal in bought})
    relatives = await people.family(connection, set(to.values()))
    of_friend: dict[str, list[Referral]] = {}
    for one in await referrals.of_contacts(connection, relatives):
        of_friend.setdefault(relatives[one.contact_id], []).append(one)
    of_friend = {friend: found for friend, found in of_friend.items() if any(one.status == "open" for one in found)}
    if not of_friend:
        return
    mine = [s for s in bought if to[s.contact_id] in of_friend]
    places = [(s.id, s.workspace, s.occurred_at, s.source, s.message_id) for s in mine]
    gone = await referrals.corrected(connection, places)
    givers = await _givers(connection, [one for found in of_friend.values() for one in found])
    known = await people.facts(connection, {*of_friend, *givers.values()}, vocabulary)
    devices = await lookup.devices(connection, [facts.contact_id for facts in known.values()])
    settled, told = list[tuple[str, str, str]](), list[bytes]()
    for friend, found in of_friend.items():
        still = (s for s in mine if to[s.contact_id] == friend and s.id not in gone)
        causes = sorted(still, key=lambda s: s.occurred_at)
        taken = any(one.status == "converted" for one in found)
        for one in found:
            cause = next((s for s in causes if s.occurred_at >= one.came_at), None)
            if one.status != "open" or cause is None:
                continue
            referrer = known[givers[one.workspace, one.code]] if (one.workspace, one.code) in givers else None
            status, reason, body = _judged(one, cause, referrer, known[friend], devices, taken=taken)
            taken = taken or status == "converted"
            settled.append((one.contact_id, status, reason))
            told += [body] if body is not None else []
    await referrals.settle(connection, settled, now)
    await actions.put_echoes(connection, told)


async def _givers(connection: Connection, found: Sequence[Referral]) -> dict[tuple[str, str], str]:
    """Return by (workspace, code) whose code it is."""
    givers: dict[tuple[str, str], str] = {}
    for workspace in {one.workspace for one in found}:
        owners = await referrals.owners(
            connection, workspace, {one.code for one in found if one.workspace == workspace}
        )
        givers |= {(workspace, code): contact for code, contact in owners.items()}
    return givers


def _judged(
    one: Referral, cause: Signal, referrer: Facts | None, friend: Facts, devices: Mapping[str, set[str]], *, taken: bool
) -> tuple[str, str, bytes | None]:
    """Return (status, reason, touchpoint of the referrer) of a referral whose friend has bought."""
    if taken or referrer is None:
        return "refused", "another friend came first" if taken else "unknown code", None
    shared = devices.get(referrer.contact_id, set()) & devices.get(friend.contact_id, set())
    reason = refusal(referrer, friend, cause.signal, one.came_at, same_device=bool(shared))
    if not reason and not friend.user_id and not friend.verified_emails:
        return "open", "nobody knows the friend yet", None
    body = None if reason else referral_touchpoint(referrer, cause, one.code)
    if body is None:
        return "refused", reason or "the referrer has no id that the door takes", None
    return "converted", cause.signal, body


class ReferralsDesk:
    """Gives out codes and lists what came of them."""

    def __init__(self, session: Session, links: Links, clock: Clock) -> None:
        self._session = session
        self._links = links
        self._clock = clock

    async def code(self, workspace: str, who: str) -> Code:
        """Return a contact's code and link. Raises NotFound."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            contact = await lookup.known(connection, workspace, who)
            code = self._links.code(workspace, contact)
            await referrals.give(connection, [(workspace, code, contact)])
        return Code(contact, code, self._links.referral(code))

    async def every(self, workspace: str, limit: int) -> list[Shown]:
        """Return a workspace's referrals, those who came last first."""
        async with self._session.acquire() as connection:
            found = await referrals.every(connection, workspace, limit)
        return [Shown(giver, r.contact_id, r.code, to_iso(r.came_at), r.status, r.reason) for r, giver in found]

    async def leads_to(self, code: str, path: str) -> str | None:
        """Return where a friend's link leads: a path of the site, with the code if it is one; None without a site."""
        async with self._session.acquire() as connection:
            known = await referrals.is_known(connection, code)
        return self._links.landing(code if known else None, path)
