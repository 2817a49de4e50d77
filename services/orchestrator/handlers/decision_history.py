"""Why a contact got something, or did not: its runs and every decision about it."""

import msgspec

from libs.common.db.connection import Session
from libs.common.instants import to_iso
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import actions, contact_lookup, contact_reader, enrollments


class DecisionView(msgspec.Struct, frozen=True):
    """One action, and what became of it."""

    at: str
    play: str
    step: str
    channel: str
    status: str
    reason: str
    until: str | None
    content: str
    action_id: str


class EnrollmentView(msgspec.Struct, frozen=True):
    """One run of a play."""

    play: str
    version: int
    entered_at: str
    status: str
    reason: str
    due_at: str | None
    goal_at: str | None


class ContactDecisions(msgspec.Struct, frozen=True):
    """What was decided about a contact, the newest first."""

    contact_id: str
    consents: dict[str, bool]
    suppressed: dict[str, str]
    """By channel, why nothing goes out on it."""
    plays: list[EnrollmentView]
    decisions: list[DecisionView]


class DecisionHistoryService:
    """Answers for one workspace's contacts."""

    def __init__(self, session: Session, registry: PlayRegistry) -> None:
        self._session = session
        self._registry = registry

    async def get_decisions(self, workspace: str, who: str, limit: int = 50) -> ContactDecisions:
        """Return what was decided about a contact, by its id, a user id or an e-mail address. Raises NotFound."""
        async with self._session.acquire() as connection:
            contact = await contact_lookup.get_contact_id(connection, workspace, who)
            relatives = list(await contact_reader.get_aliases(connection, [contact]))
            found = await actions.list_of_contacts(connection, relatives, limit)
            runs = await enrollments.list_of_contacts(connection, relatives, limit)
            snapshot = await self._registry.get_snapshot(connection)
            facts = (await contact_reader.get_facts(connection, [contact], snapshot.vocabulary))[
                contact
            ]
        return ContactDecisions(
            contact,
            dict(facts.consents),
            dict(facts.suppressed),
            [
                EnrollmentView(r.play, r.number, to_iso(r.entered_at), r.status, r.reason, _iso(r.due_at), _iso(r.goal_at))
                for r in runs
            ],
            [
                DecisionView(
                    to_iso(at), a.play, a.step, a.channel, a.status, a.reason, _iso(a.due_at) if a.status == "held" else None,
                    a.content, a.action_id,
                )
                for a, at in found
            ],
        )  # fmt: skip


def _iso(instant: int | None) -> str | None:
    """Return an instant as people read it; None where there is none, or none that is known."""
    return to_iso(instant) if instant is not None and 0 < instant < 1 << 55 else None
