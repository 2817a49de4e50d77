"""Parts that the jobs and APIs of one orchestrator process share, built from its settings."""

import httpx2

from libs.common.clock import SystemClock
from libs.common.db.connection import Session, SessionPool
from libs.common.db.outbox import Outbox
from libs.common.kafka.publisher import Publisher
from services.orchestrator.channels.registry import build_channels
from services.orchestrator.definition_file_reader import parse_max_age
from services.orchestrator.handlers.play_registry import PlayRegistry
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.webhooks.http_client import WebhookClient


class ProcessParts:
    """Shared parts, and dedicated database connections for each user of the database."""

    def __init__(self, settings: OrchestratorSettings) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.registry = PlayRegistry(parse_max_age(settings.max_age))
        self.outbox = Outbox("orchestrator", settings.partitions)
        self.publisher = Publisher(settings.kafka_bootstrap_servers)
        self.rules = settings.gate_rules()
        self.webhook_client = WebhookClient(self.clock, private=settings.private_webhooks)
        self.http_client = httpx2.AsyncClient(trust_env=False)
        self.channels = build_channels(
            settings.smtp_url, settings.sender, self.webhook_client, self.clock
        )
        self.links = settings.message_links()
        self._sessions: list[Session] = []

    def session(self, name: str) -> Session:
        """Return a new dedicated connection; `name` is its user."""
        self._sessions.append(Session(self.settings.database_url, f"orchestrator-{name}"))
        return self._sessions[-1]

    def session_pool(self, name: str, count: int) -> SessionPool:
        """Return a new pool of `count` connections; `name` is its user."""
        return SessionPool([self.session(f"{name}-{number}") for number in range(1, count + 1)])

    async def close(self) -> None:
        """Close every connection."""
        await self.http_client.aclose()
        await self.webhook_client.close()
        for channel in self.channels.values():
            await channel.close()
        await self.publisher.close()
        for session in self._sessions:
            await session.close()
