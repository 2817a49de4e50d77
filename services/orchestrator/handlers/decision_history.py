"""Decision history of a contact: its enrollments, and every decision with its reason."""

import msgspec

from libs.common.db.connection import Session
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import to_iso
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import actions, contact_lookup, contact_reader, enrollments
from services.orchestrator.repository.actions import ActionRow

MAX_INSTANT = 1 << 55
"""Later instants (µs UTC) are sentinels, such as the due instants of paused plays."""


class DecisionView(msgspec.Struct, frozen=True):
    """An action with its current status; instants are RFC 3339."""

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
    """An enrollment; instants are RFC 3339."""

    play: str
    version: int
    entered_at: str
    status: str
    reason: str
    due_at: str | None
    goal_at: str | None


class ContactDecisions(msgspec.Struct, frozen=True):
    """Enrollments and decisions of a contact, the newest first."""

    contact_id: ContactId
    consents: dict[str, bool]
    suppressed: dict[str, str]
    """Reasons by suppressed channel."""
    plays: list[EnrollmentView]
    decisions: list[DecisionView]


class DecisionHistoryService:
    """Reads the decision history of contacts."""

    def __init__(self, session: Session, registry: PlayRegistry) -> None:
        self._session = session
        self._registry = registry

    async def get_decisions(
        self, workspace: WorkspaceId, reference: str, limit: int = 50
    ) -> ContactDecisions:
        """Return at most `limit` enrollments and decisions of a contact. Raises NotFound."""
        async with self._session.acquire() as connection:
            contact = await contact_lookup.get_contact_id(connection, workspace, reference)
            aliases = list(await contact_reader.get_aliases(connection, [contact]))
            action_rows = await actions.list_of_contacts(connection, aliases, limit)
            enrollment_rows = await enrollments.list_of_contacts(connection, aliases, limit)
            snapshot = await self._registry.get_snapshot(connection)
            facts = await contact_reader.get_facts(connection, [contact], snapshot.vocabulary)
        return ContactDecisions(
            contact,
            dict(facts[contact].consents),
            dict(facts[contact].suppressed),
            [_enrollment_view(enrollment) for enrollment in enrollment_rows],
            [_decision_view(action, decided_at) for action, decided_at in action_rows],
        )


def _enrollment_view(e: Enrollment) -> EnrollmentView:
    return EnrollmentView(
        e.play,
        e.number,
        to_iso(e.entered_at),
        e.status,
        e.reason,
        _format_instant(e.due_at),
        _format_instant(e.goal_at),
    )


def _decision_view(a: ActionRow, decided_at: int) -> DecisionView:
    return DecisionView(
        to_iso(decided_at),
        a.play,
        a.step,
        a.channel,
        a.status,
        a.reason,
        _format_instant(a.due_at) if a.status == "held" else None,
        a.content,
        a.action_id,
    )


def _format_instant(instant: int | None) -> str | None:
    """Return an instant as RFC 3339; None for none, and for a sentinel."""
    return to_iso(instant) if instant is not None and 0 < instant < MAX_INSTANT else None
