"""What a person does about actions that failed or of which nobody knows: look, try once more, say what became of them."""

from typing import Literal

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Connection, Session
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import Conflict, NotFound
from libs.common.instants import to_iso
from libs.common.messages.action import ActionStatus
from services.orchestrator.handlers.decision_batch import DecisionBatch
from services.orchestrator.repository import actions, contact_reader
from services.orchestrator.repository.actions import ActionOutcome, ActionRow

LedgerVerb = Literal["retry", "arrived", "lost"]
_OPEN_TO: dict[LedgerVerb, tuple[str, ...]] = {
    "retry": ("failed", "in_doubt"),
    "arrived": ("in_doubt",),
    "lost": ("in_doubt",),
}


class ActionView(msgspec.Struct, frozen=True):
    """An action as an operator sees it."""

    action_id: str
    contact_id: str
    play: str
    step: str
    channel: str
    destination: str
    status: str
    reason: str
    attempts: int
    decided_at: str


class ActionLedgerService:
    """Shows a workspace's actions, and takes what a person says of them."""

    def __init__(self, session: Session, outbox: Outbox, clock: Clock) -> None:
        self._session = session
        self._outbox = outbox
        self._clock = clock

    async def list_actions(
        self, workspace: str, status: ActionStatus, limit: int
    ) -> list[ActionView]:
        """Return the actions of a status, those decided last first."""
        async with self._session.acquire() as connection:
            rows = await actions.list_by_status(connection, workspace, status, limit)
        return [
            ActionView(
                a.action_id, a.contact_id, a.play, a.step, a.channel, a.destination, a.status, a.reason, a.attempts, to_iso(at)
            )
            for a, at in rows
        ]  # fmt: skip

    async def resolve_action(
        self, workspace: str, action_id: str, verb: LedgerVerb, author: str
    ) -> None:
        """Let an action be tried once more, or settle what became of one in doubt. Raises NotFound, Conflict."""
        async with self._session.acquire() as connection, unit_of_work(connection):
            action, contact = await self._held(connection, workspace, action_id)
            if action.status not in _OPEN_TO[verb]:
                raise Conflict(
                    f"action {action_id} is {action.status}: {verb} is for {' and '.join(_OPEN_TO[verb])}"
                )
            decided = DecisionBatch(self._clock.now())
            became = {
                "retry": ActionOutcome("pending", f"retried by {author}", decided.now),
                "arrived": ActionOutcome("sent", f"arrived, says {author}"),
                "lost": ActionOutcome("failed", f"never arrived, says {author}"),
            }[verb]
            decided.add_outcome(action, contact, became)
            await decided.save(connection, self._outbox)

    async def _held(
        self, connection: Connection, workspace: str, action_id: str
    ) -> tuple[ActionRow, str]:
        """Return an action and its contact, who is held: nobody else decides about them meanwhile."""
        action = await self._found(connection, workspace, action_id)
        contact = (await contact_reader.get_survivors(connection, [action.contact_id]))[
            action.contact_id
        ]
        await contact_reader.lock_contacts(connection, [contact])
        return await self._found(connection, workspace, action_id), contact

    async def _found(self, connection: Connection, workspace: str, action_id: str) -> ActionRow:
        action = await actions.get_action(connection, workspace, action_id)
        if action is None:
            raise NotFound(f"workspace {workspace} has no action {action_id!r}")
        return action
