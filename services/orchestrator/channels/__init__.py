"""The channels: one module each, one contract for all."""

from typing import Protocol

from services.orchestrator.domain.rendered_message import DeliveryResult, RenderedMessage


class Channel(Protocol):
    """What the dispatcher needs of a channel."""

    idempotent: bool
    """Whether whoever takes the letters drops a repeat by its id: then an attempt that nobody knows of is made again."""

    async def send(self, letter: RenderedMessage) -> DeliveryResult:
        """Try once. Never raises: every fault is a Result."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
