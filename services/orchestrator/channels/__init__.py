"""Delivery channels: one module per channel, one protocol for all."""

from typing import Protocol

from services.orchestrator.domain.rendered_message import DeliveryResult, RenderedMessage


class Channel(Protocol):
    """The interface of a channel to the dispatcher."""

    idempotent: bool
    """Whether the receiver drops repeats by their id; if so, an attempt in doubt is retried."""

    async def send(self, message: RenderedMessage) -> DeliveryResult:
        """Send once. Never raises: every fault is returned as a DeliveryResult."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
