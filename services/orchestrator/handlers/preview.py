"""What an action would say to a real contact, before anybody gets it; and a test-send past the ledger."""

from collections.abc import Mapping
from typing import Any

import msgspec

from libs.common.clock import Clock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, NotFound
from services.orchestrator.channels import Channel
from services.orchestrator.domain.asking import offer
from services.orchestrator.domain.checking import checked
from services.orchestrator.domain.letter import Letter, Result, write
from services.orchestrator.domain.links import Links
from services.orchestrator.domain.program import program_of
from services.orchestrator.domain.progress import Run
from services.orchestrator.handlers.playbook import Playbook
from services.orchestrator.handlers.plays import names_of
from services.orchestrator.repository import lookup, people


class Shown(msgspec.Struct, frozen=True):
    """A letter as it would be, how its content was chosen, and what came of a test-send."""

    to: str
    subject: str
    text: str
    html: str | None
    fields: dict[str, Any]
    choice: list[str]
    sent: str


class Preview:
    """Writes letters that count for nothing."""

    def __init__(
        self, session: Session, playbook: Playbook, channels: Mapping[str, Channel], links: Links, clock: Clock
    ) -> None:
        self._session = session
        self._playbook = playbook
        self._channels = channels
        self._links = msgspec.structs.replace(links, keys=())  # whoever tries a letter is not taken for its reader
        self._clock = clock

    async def of(self, workspace: str, text: str, where: str, name: str, who: str, to: str | None) -> Shown:
        """Return an action of a play's text as a contact would get it; with `to` an e-mail is sent there.

        Raises ConfigurationError, NotFound, InvalidMessage `template` naming what is missing.
        """
        async with self._session.acquire() as connection:
            book = await self._playbook.now(connection)
            program = program_of(checked(text, where, names_of(book, workspace)), 0, book.segments.get(workspace, {}))
            contact = await lookup.find(connection, workspace, who)
            known = await people.facts(connection, [contact] if contact else [], book.vocabulary)
        action = program.actions.get(name)
        if action is None:
            raise NotFound(f"{where}: no action {name!r}; there are {', '.join(program.actions)}")
        if contact is None:
            raise NotFound(f"nobody has the id, identifier or e-mail {who!r}")
        facts = known[contact]
        choice = offer(action, book.contents.get(workspace, ()), facts)
        now = self._clock.now()
        run = Run("preview", workspace, contact, program.play.play, 0, "preview", now, {"properties": {}})
        facts = msgspec.structs.replace(facts, contact_id="preview")  # its unsubscribe link is nobody's
        place = book.destinations.get((workspace, action.destination or ""))
        letter = write("preview", action, run, facts, choice.item, place, self._links)
        sent = await self._send(action.channel, letter, to, now) if to else None
        said = f"{sent.outcome}: {sent.detail}" if sent else ""
        fields = dict(letter.data.get("fields", {}))
        return Shown(letter.address, letter.subject, letter.text, letter.html, fields, list(choice.reasons), said)

    async def _send(self, channel: str, letter: Letter, to: str, now: int) -> Result:
        if channel != "email":
            raise ConfigurationError("only an e-mail can be sent as a test: a destination would take it for real")
        marked = msgspec.structs.replace(
            letter, action_id=f"test-{now}", address=to, subject=f"[test] {letter.subject}"
        )
        return await self._channels[channel].send(marked)
