"""Receivers of mails and webhooks that time out, drop after the body, refuse and lie; they remember what they took."""

import random
from collections import Counter
from email import message_from_bytes

from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from tests.support.waiting import last
from tests.support.webhook_receiver import Answer, WebhookReceiver


class FaultyMailServer:
    """An SMTP server's handler. It never takes a mail and says later that it did not: nobody could help against that."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.taken: Counter[str] = Counter()
        self.of_address: Counter[str] = Counter()
        self.lied: set[str] = set()
        """Said to be taken, and thrown away."""
        self.dropped: set[str] = set()
        """Taken or not, without an answer."""

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:
        """Take a mail, or be mean."""
        assert isinstance(envelope.content, bytes)
        name = (
            str(message_from_bytes(envelope.content)["Message-ID"])
            .strip("<>")
            .removesuffix("@perigee")
        )
        drawn = self.chance.random()
        if drawn < 0.01:
            return "451 not now"
        if drawn < 0.013:
            return "550 never"
        if drawn < 0.016:
            self.lied.add(name)
            return "250 ok"
        self.taken[name] += 1
        self.of_address[envelope.rcpt_tos[0]] += 1
        if drawn < 0.02:
            self.dropped.add(name)
            assert server.transport is not None
            server.transport.close()
            await last(0.05)
        return "250 ok"


class FaultyWebhookReceiver(WebhookReceiver):
    """A webhook's receiver that drops repeats by their id, and now and then says that it failed when it did not."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(self.answer)
        self.chance = chance
        self.first: dict[str, int] = {}
        self.repeats = 0

    def keep(self, headers: dict[str, str], body: bytes) -> None:
        """Take it once."""
        name = headers["webhook-id"]
        self.repeats += name in self.first
        self.first.setdefault(name, len(self.first))

    def answer(self, told: dict[str, object]) -> Answer | float:
        """Be mean."""
        drawn = self.chance.random()
        if drawn < 0.02:
            return (503, {})
        if drawn < 0.03:
            return (500, {})
        if drawn < 0.0303:
            return 20.0
        return (200, {})
