"""Published messages, read by cursor. Nothing is written."""

import msgspec

from libs.common.db import published_messages
from libs.common.db.connection import Session
from libs.common.ids import WorkspaceId
from libs.common.messages.message_filter import MESSAGE_TYPES, MessageFilter

MAX_MESSAGES = 1_000
_MAX_SCANNED = 5_000
"""Messages scanned for one page, including the ones that the filter drops."""
_READ_BATCH = 1_000


class MessageItem(msgspec.Struct, frozen=True):
    """A published message."""

    id: str
    type: str
    data: msgspec.Raw


class MessagePage(msgspec.Struct, frozen=True):
    """A page of messages, with the cursor of the next page."""

    items: list[MessageItem]
    cursor: str
    more: bool


class PublishedMessageService:
    """Reads the log of published messages."""

    def __init__(self, session: Session, shards: int) -> None:
        self._session = session
        self._shards = shards

    async def list_after(
        self, workspace: WorkspaceId, cursor: str, limit: int, message_filter: MessageFilter
    ) -> MessagePage:
        """Return at most `limit` messages after a cursor that match the filter.

        An empty cursor is the beginning of the log; `now` returns the end cursor alone. Raises
        ConfigurationError for an invalid cursor.
        """
        async with self._session.acquire() as connection:
            if cursor == "now":
                return MessagePage(
                    [],
                    published_messages.encode_cursor(
                        await published_messages.get_end_cursor(connection, workspace, self._shards)
                    ),
                    False,
                )
            positions = published_messages.decode_cursor(cursor) if cursor else {}
            items: list[MessageItem] = []
            scanned, more = 0, True
            while more and len(items) < limit and scanned < _MAX_SCANNED:
                rows, _ = await published_messages.list_after(
                    connection, workspace, positions, self._shards, _READ_BATCH
                )
                more = len(rows) == _READ_BATCH
                for row in rows:
                    if len(items) == limit:
                        more = True
                        break
                    scanned += 1
                    positions = {**positions, row.shard: row.position}
                    if message_filter.matches(workspace, row.kind, row.value):
                        items.append(
                            MessageItem(
                                row.message_id, MESSAGE_TYPES[row.kind], msgspec.Raw(row.value)
                            )
                        )
        return MessagePage(items, published_messages.encode_cursor(positions), more)
