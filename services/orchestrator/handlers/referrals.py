"""Recommendations: who came by whose code, and telling of the one who recommended when the friend has bought.

The referrer moves by a touchpoint of their own. Its `messageId` hashes what the friend did, so it is told once; a correction of
that takes it away with it (`services.scoring.handlers.corrections`).
"""

from collections.abc import Mapping, Sequence

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.instants import to_iso
from libs.common.messages import Signal
from services.orchestrator.domain.facts import Facts
from services.orchestrator.domain.links import Links
from services.orchestrator.domain.referral import CAME, PROPERTY, refusal
from services.orchestrator.domain.vocabulary import Vocabulary
from services.orchestrator.handlers.telling import referral_touchpoint
from services.orchestrator.repository import actions, people, referrals
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
    """Note who came by a friend's code, and settle the referrals of those who bought. History is nobody's merit."""
    fresh = [signal for signal in signals if not signal.historical]
    came = [
        (s.contact_id, s.workspace, code.strip().lower(), s.occurred_at)
        for s in fresh
        if s.signal == CAME and isinstance(code := s.properties.get(PROPERTY), str)
    ]
    await referrals.note(connection, came)
    successes = {words.success for words in vocabulary.cycles.values() if words.success}
    bought = {s.contact_id: s for s in reversed(fresh) if s.signal in successes}
    if bought:
        await _settle(connection, vocabulary, bought, now)


async def _settle(connection: Connection, vocabulary: Vocabulary, bought: Mapping[str, Signal], now: int) -> None:
    to = await people.survivors(connection, bought)
    relatives = await people.family(connection, set(to.values()))
    found = await referrals.open_of(connection, relatives)
    if not found:
        return
    cause_of = {to[contact]: signal for contact, signal in bought.items()}
    givers: dict[str, str] = {}
    for workspace in {one.workspace for one in found}:
        codes = {one.code for one in found if one.workspace == workspace}
        givers |= await referrals.owners(connection, workspace, codes)
    friends = {one.contact_id for one in found}
    known = await people.facts(connection, friends | set(givers.values()), vocabulary)
    settled, told = list[tuple[str, str, str]](), list[bytes]()
    for one in found:
        cause = cause_of[relatives[one.contact_id]]
        if cause.occurred_at >= one.came_at:
            status, reason, body = _judged(one, cause, known, givers.get(one.code))
            settled.append((one.contact_id, status, reason))
            told += [body] if body is not None else []
    await referrals.settle(connection, settled, now)
    await actions.put_echoes(connection, told)


def _judged(
    one: Referral, cause: Signal, known: Mapping[str, Facts], giver: str | None
) -> tuple[str, str, bytes | None]:
    """Return (status, reason, touchpoint of the referrer) of a referral whose friend has bought."""
    referrer = known[giver] if giver is not None else None
    reason = refusal(referrer, known[one.contact_id], cause.signal, one.came_at)
    if reason or referrer is None:
        return "refused", reason, None
    body = referral_touchpoint(referrer, cause, one.code)
    return "converted", cause.signal if body else "the referrer has no id that the door takes", body


class ReferralsDesk:
    """Gives out codes and lists what came of them."""

    def __init__(self, session: Session, links: Links, clock: Clock) -> None:
        self._session = session
        self._links = links
        self._clock = clock

    async def code(self, workspace: str, who: str) -> Code:
        """Return a contact's code and link. Raises NotFound."""
        async with self._session.use() as connection, unit_of_work(connection):
            contact = await people.known(connection, workspace, who)
            code = self._links.code(workspace, contact)
            await referrals.give(connection, [(workspace, code, contact)])
        return Code(contact, code, self._links.referral(code))

    async def every(self, workspace: str, limit: int) -> list[Shown]:
        """Return a workspace's referrals, those who came last first."""
        async with self._session.use() as connection:
            found = await referrals.every(connection, workspace, limit)
        return [Shown(giver, r.contact_id, r.code, to_iso(r.came_at), r.status, r.reason) for r, giver in found]

    async def leads_to(self, code: str, path: str) -> str | None:
        """Return where a friend's link leads: a path of the site, with the code if it is one; None without a site."""
        async with self._session.use() as connection:
            known = await referrals.is_known(connection, code)
        return self._links.landing(code if known else None, path)
