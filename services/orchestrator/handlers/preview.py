"""Preview of an action for a real contact, and test messages past the ledger."""

from collections.abc import Mapping
from typing import Any

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, NotFound
from libs.common.ids import WorkspaceId
from services.orchestrator.channels import Channel
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.gate_request import offer_content
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.domain.play_program import compile_play
from services.orchestrator.domain.play_validation import validate_play
from services.orchestrator.domain.rendered_message import (
    DeliveryResult,
    RenderedMessage,
    render_action,
)
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.repository import contact_lookup, contact_reader


class PreviewView(msgspec.Struct, frozen=True):
    """A rendered message, the reasons of its content choice, and the result of a test message."""

    to: str
    subject: str
    text: str
    html: str | None
    fields: dict[str, Any]
    choice: list[str]
    sent: str


class PreviewService:
    """Renders messages that are neither stored nor counted."""

    def __init__(
        self,
        session: Session,
        registry: PlayRegistry,
        channels: Mapping[str, Channel],
        links: MessageLinks,
        clock: Clock,
    ) -> None:
        self._session = session
        self._registry = registry
        self._channels = channels
        # Without keys, links identify no contact: the reader of a test message is another person.
        self._links = msgspec.structs.replace(links, keys=())
        self._clock = clock

    async def render_preview(
        self,
        workspace: WorkspaceId,
        text: str,
        where: str,
        name: str,
        reference: str,
        to: str | None,
    ) -> PreviewView:
        """Return an action of a play's text for a contact; with `to` an e-mail is sent there.

        Raises ConfigurationError, NotFound, InvalidMessage `template` naming the missing value.
        """
        async with self._session.acquire() as connection:
            snapshot = await self._registry.get_snapshot(connection)
            program = compile_play(
                validate_play(text, where, snapshot.known_names(workspace)),
                0,
                snapshot.segments.get(workspace, {}),
            )
            contact = await contact_lookup.find_contact(connection, workspace, reference)
            facts_by_contact = await contact_reader.get_facts(
                connection, [contact] if contact else [], snapshot.vocabulary
            )
        action = program.actions.get(name)
        if action is None:
            raise NotFound(f"{where}: no action {name!r}; there are {', '.join(program.actions)}")
        if contact is None:
            raise NotFound(f"no contact has the id, identifier or e-mail {reference!r}")
        facts = facts_by_contact[contact]
        choice = offer_content(action, snapshot.contents.get(workspace, ()), facts)
        now = self._clock.now()
        enrollment = Enrollment(
            "preview", workspace, contact, program.play.play, 0, "preview", now, {"properties": {}}
        )
        # The unsubscribe link of a preview must not unsubscribe the contact.
        facts = msgspec.structs.replace(facts, contact_id="preview")
        destination = snapshot.destinations.get((workspace, action.destination or ""))
        message = render_action(
            "preview", action, enrollment, facts, choice.item, destination, self._links
        )
        result = await self._send_test(action.channel, message, to, now) if to else None
        return PreviewView(
            message.address,
            message.subject,
            message.text,
            message.html,
            dict(message.data.get("fields", {})),
            list(choice.reasons),
            f"{result.outcome}: {result.detail}" if result else "",
        )

    async def _send_test(
        self, channel: str, message: RenderedMessage, to: str, now: int
    ) -> DeliveryResult:
        if channel != "email":
            raise ConfigurationError(
                "only an e-mail can be sent as a test: a destination would take it for real"
            )
        marked = msgspec.structs.replace(
            message, action_id=f"test-{now}", address=to, subject=f"[test] {message.subject}"
        )
        return await self._channels[channel].send(marked)
