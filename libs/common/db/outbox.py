"""Transactional outbox: messages inserted with their cause, published later by a relay."""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from libs.common.db.connection import Connection
from libs.common.messages import Message
from libs.common.partitioner import partition_for_key

_headers = msgspec.msgpack.Encoder()
_decode_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes]])


class Outbox:
    """Outbox table of a service."""

    def __init__(self, schema: str, partitions: int) -> None:
        self.schema = schema
        self.partitions = partitions
        self._shard = lru_cache(maxsize=100_000)(self._shard_of)

    def _shard_of(self, key: bytes) -> int:
        return partition_for_key(key, self.partitions)

    async def insert_messages(self, connection: Connection, messages: Sequence[Message]) -> None:
        """Insert messages in order; the relays are notified when the transaction commits."""
        if not messages:
            return
        await connection.copy_records_to_table(
            "outbox",
            schema_name=self.schema,
            columns=["shard", "topic", "key", "value", "headers"],
            records=[
                (self._shard(m.key), m.topic, m.key, m.value, _headers.encode(m.headers))
                for m in messages
            ],
        )
        await connection.execute(f"NOTIFY {self.schema}_outbox")


def message_from_row(topic: str, key: bytes, value: bytes | None, headers: bytes) -> Message:
    """Decode the message of an outbox row."""
    return Message(topic, key, value, _decode_headers.decode(headers))
