"""The channels: one module each, one contract for all."""

from typing import Literal, Protocol

import msgspec


class Letter(msgspec.Struct, frozen=True):
    """A rendered action, ready for its channel."""

    action_id: str
    address: str
    subject: str
    text: str
    html: str | None
    unsubscribe_url: str


class Result(msgspec.Struct, frozen=True):
    """What came of an attempt: `again` may be retried, `unknown` may have arrived and is never sent again blindly."""

    outcome: Literal["delivered", "again", "refused", "unknown"]
    detail: str


class Channel(Protocol):
    """What the dispatcher needs of a channel."""

    async def send(self, letter: Letter) -> Result:
        """Try once. Never raises: every fault is a Result."""
        ...
