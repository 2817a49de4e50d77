"""Adapter from aiokafka's rebalance listener to a consumer."""

from collections.abc import Sequence
from typing import Any, Protocol

from aiokafka import ConsumerRebalanceListener


class RebalanceHandler(Protocol):
    """Receiver of rebalance events."""

    async def partitions_revoked(self) -> None:
        """Wait for the current batch before the partitions are given up."""

    async def partitions_assigned(self, partitions: Sequence[Any]) -> None:
        """Seek each newly owned partition to its offset of record."""


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Forwards aiokafka's rebalance events to one consumer."""

    def __init__(self, consumer: RebalanceHandler) -> None:
        self.consumer = consumer

    async def on_partitions_revoked(self, revoked: Sequence[Any]) -> None:  # noqa: ARG002
        """Wait for the current batch."""
        await self.consumer.partitions_revoked()

    async def on_partitions_assigned(self, assigned: Sequence[Any]) -> None:
        """Seek to the offsets of record."""
        await self.consumer.partitions_assigned(assigned)
