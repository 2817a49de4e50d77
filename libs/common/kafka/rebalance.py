"""What aiokafka tells of a rebalance, passed on."""

from collections.abc import Sequence
from typing import Any, Protocol

from aiokafka import ConsumerRebalanceListener


class RebalanceHandler(Protocol):
    """What wants to know."""

    async def partitions_revoked(self) -> None:
        """Let the batch in hand end before the partitions go."""

    async def partitions_assigned(self, partitions: Sequence[Any]) -> None:
        """Seek each newly owned partition to the offset of record."""


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells one consumer of ours."""

    def __init__(self, consumer: RebalanceHandler) -> None:
        self.consumer = consumer

    async def on_partitions_revoked(self, revoked: Sequence[Any]) -> None:  # noqa: ARG002
        """Wait for the batch in hand."""
        await self.consumer.partitions_revoked()

    async def on_partitions_assigned(self, assigned: Sequence[Any]) -> None:
        """Seek to the offsets of record."""
        await self.consumer.partitions_assigned(assigned)
