"""Application service for the action ledger: list actions, retry them, resolve doubt."""

from typing import Literal

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import Conflict, NotFound
from libs.common.ids import ContactId, WorkspaceId
from libs.common.instants import to_iso
from libs.common.messages.action import ActionStatus
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.repository import actions, contact_reader
from services.orchestrator.repository.actions import ActionOutcome, ActionRow

LedgerVerb = Literal["retry", "arrived", "lost"]
_ALLOWED_STATUSES: dict[LedgerVerb, tuple[str, ...]] = {
    "retry": ("failed", "in_doubt"),
    "arrived": ("in_doubt",),
    "lost": ("in_doubt",),
}


class ActionView(msgspec.Struct, frozen=True):
    """An action as the admin API returns it; `decided_at` is RFC 3339."""

    action_id: str
    contact_id: ContactId
    play: str
    step: str
    channel: str
    destination: str
    status: str
    reason: str
    attempts: int
    decided_at: str


class ActionLedgerService:
    """Use cases of operators with the actions of a workspace."""

    def __init__(self, session: Session, outbox: Outbox, clock: Clock) -> None:
        self._session = session
        self._outbox = outbox
        self._clock = clock

    async def list_actions(
        self, workspace: WorkspaceId, status: ActionStatus, limit: int
    ) -> list[ActionView]:
        """Return the actions of a status, the latest decision first."""
        async with self._session.acquire() as connection:
            rows = await actions.list_by_status(connection, workspace, status, limit)
        return [
            ActionView(
                a.action_id,
                a.contact_id,
                a.play,
                a.step,
                a.channel,
                a.destination,
                a.status,
                a.reason,
                a.attempts,
                to_iso(decided_at),
            )
            for a, decided_at in rows
        ]

    async def resolve_action(
        self, workspace: WorkspaceId, action_id: str, verb: LedgerVerb, author: str
    ) -> None:
        """Retry an action, or state the outcome of one in doubt. Raises NotFound, Conflict."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            action, contact = await self._lock_action(connection, workspace, action_id)
            allowed = _ALLOWED_STATUSES[verb]
            if action.status not in allowed:
                raise Conflict(
                    f"action {action_id} is {action.status}: {verb} is for {' and '.join(allowed)}"
                )
            batch = DecisionBatch(self._clock.now())
            outcome = {
                "retry": ActionOutcome("pending", f"retried by {author}", batch.now),
                "arrived": ActionOutcome("sent", f"arrived, says {author}"),
                "lost": ActionOutcome("failed", f"never arrived, says {author}"),
            }[verb]
            batch.add_outcome(action, contact, outcome)
            await batch.save(connection, self._outbox)

    async def _lock_action(
        self, connection: Connection, workspace: WorkspaceId, action_id: str
    ) -> tuple[ActionRow, ContactId]:
        """Lock an action's contact; return the action as of then, and the canonical contact id."""
        action = await self._get_action(connection, workspace, action_id)
        survivors = await contact_reader.get_survivors(connection, [action.contact_id])
        contact = survivors[action.contact_id]
        await contact_reader.lock_contacts(connection, [contact])
        return await self._get_action(connection, workspace, action_id), contact

    async def _get_action(
        self, connection: Connection, workspace: WorkspaceId, action_id: str
    ) -> ActionRow:
        action = await actions.get_action(connection, workspace, action_id)
        if action is None:
            raise NotFound(f"workspace {workspace} has no action {action_id!r}")
        return action
