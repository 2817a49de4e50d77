"""What an action would say to a real contact, before anybody gets it; and a test-send past the ledger."""

from collections.abc import Mapping
from typing import Any

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, NotFound
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
from services.orchestrator.handlers.plays import known_names
from services.orchestrator.repository import contact_lookup, contact_reader


class PreviewView(msgspec.Struct, frozen=True):
    """A letter as it would be, how its content was chosen, and what came of a test-send."""

    to: str
    subject: str
    text: str
    html: str | None
    fields: dict[str, Any]
    choice: list[str]
    sent: str


class PreviewService:
    """Writes letters that count for nothing."""

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
        self._links = msgspec.structs.replace(
            links, keys=()
        )  # whoever tries a letter is not taken for its reader
        self._clock = clock

    async def render_preview(
        self, workspace: str, text: str, where: str, name: str, who: str, to: str | None
    ) -> PreviewView:
        """Return an action of a play's text as a contact would get it; with `to` an e-mail is sent there.

        Raises ConfigurationError, NotFound, InvalidMessage `template` naming what is missing.
        """
        async with self._session.acquire() as connection:
            snapshot = await self._registry.get_snapshot(connection)
            program = compile_play(
                validate_play(text, where, known_names(snapshot, workspace)),
                0,
                snapshot.segments.get(workspace, {}),
            )
            contact = await contact_lookup.find_contact(connection, workspace, who)
            known = await contact_reader.get_facts(
                connection, [contact] if contact else [], snapshot.vocabulary
            )
        action = program.actions.get(name)
        if action is None:
            raise NotFound(f"{where}: no action {name!r}; there are {', '.join(program.actions)}")
        if contact is None:
            raise NotFound(f"no contact has the id, identifier or e-mail {who!r}")
        facts = known[contact]
        choice = offer_content(action, snapshot.contents.get(workspace, ()), facts)
        now = self._clock.now()
        run = Enrollment(
            "preview", workspace, contact, program.play.play, 0, "preview", now, {"properties": {}}
        )
        facts = msgspec.structs.replace(
            facts, contact_id="preview"
        )  # its unsubscribe link is nobody's
        place = snapshot.destinations.get((workspace, action.destination or ""))
        letter = render_action("preview", action, run, facts, choice.item, place, self._links)
        sent = await self._send(action.channel, letter, to, now) if to else None
        said = f"{sent.outcome}: {sent.detail}" if sent else ""
        fields = dict(letter.data.get("fields", {}))
        return PreviewView(
            letter.address,
            letter.subject,
            letter.text,
            letter.html,
            fields,
            list(choice.reasons),
            said,
        )

    async def _send(
        self, channel: str, letter: RenderedMessage, to: str, now: int
    ) -> DeliveryResult:
        if channel != "email":
            raise ConfigurationError(
                "only an e-mail can be sent as a test: a destination would take it for real"
            )
        marked = msgspec.structs.replace(
            letter, action_id=f"test-{now}", address=to, subject=f"[test] {letter.subject}"
        )
        return await self._channels[channel].send(marked)
