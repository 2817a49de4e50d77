"""Reading what was published, by cursor. Nothing is written."""

import msgspec

from libs.common.db import published_messages
from libs.common.db.connection import Session
from libs.common.messages.message_filter import MESSAGE_TYPES, MessageFilter

MAX_MESSAGES = 1_000
_LOOKED_AT = 5_000
"""How many messages one answer looks through at most for those that are wanted."""
_AT_ONCE = 1_000


class MessageItem(msgspec.Struct, frozen=True):
    """A message that was published."""

    id: str
    type: str
    data: msgspec.Raw


class MessagePage(msgspec.Struct, frozen=True):
    """Messages, and where the next ones are."""

    items: list[MessageItem]
    cursor: str
    more: bool


class PublishedMessageService:
    """Reads the log."""

    def __init__(self, session: Session, shards: int) -> None:
        self._session = session
        self._shards = shards

    async def list_after(
        self, workspace: str, cursor: str, limit: int, wanted: MessageFilter
    ) -> MessagePage:
        """Return at most `limit` wanted messages behind a cursor. Raises ConfigurationError for a cursor of somebody else's."""
        async with self._session.acquire() as connection:
            if cursor == "now":
                return MessagePage(
                    [],
                    published_messages.encode_cursor(
                        await published_messages.get_end_cursor(connection, workspace, self._shards)
                    ),
                    False,
                )
            place = published_messages.decode_cursor(cursor) if cursor else {}
            found: list[MessageItem] = []
            looked_at, more = 0, True
            while more and len(found) < limit and looked_at < _LOOKED_AT:
                rows, _ = await published_messages.list_after(
                    connection, workspace, place, self._shards, _AT_ONCE
                )
                more = len(rows) == _AT_ONCE
                for row in rows:
                    if len(found) == limit:
                        more = True
                        break
                    looked_at += 1
                    place = {**place, row.shard: row.position}
                    if wanted.matches(workspace, row.kind, row.value):
                        found.append(
                            MessageItem(
                                row.message_id, MESSAGE_TYPES[row.kind], msgspec.Raw(row.value)
                            )
                        )
        return MessagePage(found, published_messages.encode_cursor(place), more)
