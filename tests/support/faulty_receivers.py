"""Mail server and webhook receiver with timeouts, dropped connections and false answers."""

import random
from collections import Counter
from email import message_from_bytes

from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from tests.support.waiting import last
from tests.support.webhook_receiver import Answer, WebhookReceiver


class FaultyMailServer:
    """Handler of an SMTP server that records accepted mails.

    It never accepts a mail and denies it later: no sender could handle that.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.accepted: Counter[str] = Counter()
        self.by_address: Counter[str] = Counter()
        self.discarded: set[str] = set()
        """Mails that were answered 250 and discarded."""
        self.dropped: set[str] = set()
        """Mails that were accepted without an answer."""

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:
        """Accept, refuse, discard or drop a mail."""
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
            self.discarded.add(name)
            return "250 ok"
        self.accepted[name] += 1
        self.by_address[envelope.rcpt_tos[0]] += 1
        if drawn < 0.02:
            self.dropped.add(name)
            assert server.transport is not None
            server.transport.close()
            await last(0.05)
        return "250 ok"


class FaultyWebhookReceiver(WebhookReceiver):
    """Receiver that ignores repeats by id and sometimes reports a failure of a stored delivery."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(self.answer)
        self.chance = chance
        self.first: dict[str, int] = {}
        self.repeats = 0

    def keep(self, headers: dict[str, str], body: bytes) -> None:
        """Count a delivery once."""
        name = headers["webhook-id"]
        self.repeats += name in self.first
        self.first.setdefault(name, len(self.first))

    def answer(self, payload: dict[str, object]) -> Answer | float:
        """Answer 200, sometimes 500, 503 or after 20 seconds."""
        drawn = self.chance.random()
        if drawn < 0.02:
            return (503, {})
        if drawn < 0.03:
            return (500, {})
        if drawn < 0.0303:
            return 20.0
        return (200, {})
