"""The orchestrator's services wired as in its main, without Kafka."""

import random
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from cli.home import PROJECT
from libs.common.clock import FixedClock
from libs.common.db.connection import Session, SessionPool
from libs.common.db.outbox import Outbox
from libs.common.ids import WorkspaceId
from libs.common.kafka.record import Record
from libs.common.messages import Signal, decode_value
from services.orchestrator.channels import Channel
from services.orchestrator.channels.crm_task import CrmTaskChannel
from services.orchestrator.channels.email import EmailChannel
from services.orchestrator.channels.http_channels import SlackChannel, TopicChannel, WebhookChannel
from services.orchestrator.definition_file_reader import read_contents, read_plays, read_segments
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.handlers.action_decision import ActionDecider
from services.orchestrator.handlers.action_ledger import ActionLedgerService
from services.orchestrator.handlers.contact_sweeps import ContactSweeper
from services.orchestrator.handlers.decision_context import DecisionContext
from services.orchestrator.handlers.decision_history import DecisionHistoryService
from services.orchestrator.handlers.definitions import DefinitionService
from services.orchestrator.handlers.dispatcher import Dispatcher
from services.orchestrator.handlers.enrollment_runner import EnrollmentRunner
from services.orchestrator.handlers.event_consumer import EventHandler
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.handlers.play_reports import PlayReportService
from services.orchestrator.handlers.plays import PlayService
from services.orchestrator.repository.definitions import DefinitionKind
from services.orchestrator.webhooks.http_client import WebhookClient
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.handlers.cycle_installation import install_cycles
from tests.support.instance import PLAYS
from tests.support.servers import _free_port
from tests.support.touchpoints import DAY, START
from tests.support.waiting import last

SECRET = "a-secret-for-tests"
LINKS = MessageLinks("https://x.test", SECRET, "https://shop.test", ("a-key-for-links",))
_RULES = GateRules(cap_per_day=100, cap_per_week=100)


class MailServer:
    """SMTP server that records mails; its answers can be set."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.answers: list[str] = []
        self.drop_after_data = False
        self.refuses_sender = False
        self.controller = Controller(self, hostname="127.0.0.1", port=_free_port())

    async def handle_MAIL(
        self,
        server: SMTP,
        session: SmtpSession,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """Accept or refuse a sender."""
        if self.refuses_sender:
            return "550 5.1.2 no such domain"
        envelope.mail_from = address
        return "250 ok"

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:
        """Record a mail, answer with the next of `answers`, or drop the connection."""
        if self.drop_after_data:
            self.mails.append(envelope)
            assert server.transport is not None
            server.transport.close()
            await last(0.2)
        if self.answers:
            return self.answers.pop(0)
        self.mails.append(envelope)
        return "250 ok"

    @property
    def recipients(self) -> list[str]:
        """Return the recipients of the mails."""
        return [mail.rcpt_tos[0] for mail in self.mails]


class Orchestrator:
    """Services of one process on a database."""

    def __init__(
        self,
        database: str,
        mailbox: MailServer,
        rules: GateRules = _RULES,
        max_age: int | None = 31 * DAY,
    ) -> None:
        self.database = database
        self.clock = FixedClock(START + 2 * DAY)
        self.sessions = [Session(database, f"test-{number}") for number in range(6)]
        self._queries = Session(database, "test-queries")
        self.outbox = Outbox("orchestrator", 3)
        self.play_registry = PlayRegistry(max_age)
        self.play_service = PlayService(self.sessions[0], self.play_registry)
        self.definitions = DefinitionService(self.sessions[0], self.play_registry)
        self.reports = PlayReportService(self.sessions[0], self.clock)
        self.decision_history = DecisionHistoryService(self.sessions[0], self.play_registry)
        self.action_ledger = ActionLedgerService(self.sessions[0], self.outbox, self.clock)
        decision_context = DecisionContext(self.outbox, self.play_registry, self.clock)
        self.events = EventHandler(self.sessions[1], decision_context)
        self.runner = EnrollmentRunner(self.sessions[2], decision_context)
        self.sweeps = ContactSweeper(self.sessions[2], decision_context)
        self.email = EmailChannel(
            f"smtp://127.0.0.1:{mailbox.controller.port}", "Perigee <hello@x.test>"
        )
        self.post = WebhookClient(self.clock, private=True)
        self.channels: dict[str, Channel] = {
            "email": self.email,
            "webhook": WebhookChannel(self.post, self.clock),
            "slack": SlackChannel(self.post),
            "crm_task": CrmTaskChannel(self.post, self.clock),
            "audience": WebhookChannel(self.post, self.clock, "perigee.audience.v1"),
            "kafka": TopicChannel(),
        }
        decider = ActionDecider(
            self.outbox, self.play_registry, self.channels, rules, self.clock, LINKS
        )
        pool = SessionPool(self.sessions[3:])
        self.dispatcher = Dispatcher(
            pool, self.outbox, decider, self.channels, self.clock, random.Random(7).random
        )

    async def install(self, *, shipped: bool = True) -> None:
        """Install scoring's cycles; publish the welcome play, contents and segments."""
        path = PROJECT / "cycles" / "engagement.yaml"
        text = path.read_text(encoding="utf-8")
        await install_cycles(self.sessions[0], [(parse_cycle_spec(text, str(path)), text)])
        definitions: dict[DefinitionKind, dict[str, str]] = {
            "content": read_contents(PROJECT / "content"),
            "segment": read_segments(PROJECT / "segments"),
        }
        if shipped:
            await self.play_service.install(read_plays(PLAYS), definitions)

    async def publish(self, text: str) -> int:
        """Publish a play, which starts on signals up to a month old."""
        return (await self.play_service.publish(WorkspaceId("default"), text, "test"))[1]

    async def consume(self, messages: list[bytes], topic: str = "signals") -> int:
        """Handle messages as records of a topic."""
        first_offset = await self.events.next_offset(topic, 0, 0)
        records = [
            Record(topic, 0, first_offset + n, b"k", m, [], 0) for n, m in enumerate(messages)
        ]
        return await self.events.handle(records)

    async def consume_own_signals(self) -> list[Signal]:
        """Consume the signals of the orchestrator's outbox, and return them."""
        rows = await self.fetch(
            "DELETE FROM orchestrator.outbox WHERE topic = 'signals' RETURNING id, key, value"
        )
        values = [value for _, _, value in sorted(rows)]
        own_signals = [decode_value(Signal, value) for value in values]
        assert all(
            key == own_signal.contact_id.encode()
            for (_, key, _), own_signal in zip(sorted(rows), own_signals, strict=True)
        )
        if values:
            await self.consume(values)
            await self.run_due()
        return own_signals

    async def sweep_at(self, now: int) -> list[Signal]:
        """Sweep all contacts at an instant; return the resulting signals."""
        self.clock.instant = now
        await self.sweeps.start_due_sweeps()
        await self.run_due()
        return await self.consume_own_signals()

    async def run_due(self, rounds: int = 20) -> None:
        """Run all due work."""
        for _ in range(rounds):
            busy = await self.runner.advance_due()
            busy = await self.sweeps.advance_sweep() or busy
            busy = await self.dispatch_due() or busy
            if not busy:
                return

    async def dispatch_due(self) -> bool:
        """Dispatch a batch of each lane; return whether any lane had due actions."""
        lanes = await self.dispatcher.list_lanes()
        for lane in lanes:
            await self.dispatcher.dispatch_batch(lane)
        return bool(lanes)

    async def fetch(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a query."""
        async with self._queries.acquire() as connection:
            return [tuple(r) for r in await connection.fetch(query, *values)]

    async def action_states(self) -> list[tuple[Any, ...]]:
        """Return (status, reason) of every action."""
        return await self.fetch(
            "SELECT status, reason FROM orchestrator.actions ORDER BY action_id"
        )

    async def delivery_outcomes(self) -> list[str]:
        """Return the outcomes of the attempts."""
        return [
            r[0]
            for r in await self.fetch(
                "SELECT outcome FROM orchestrator.deliveries ORDER BY attempt"
            )
        ]

    async def close(self) -> None:
        """Close every connection."""
        for channel in self.channels.values():
            await channel.close()
        await self.post.close()
        for session in (*self.sessions, self._queries):
            await session.close()
