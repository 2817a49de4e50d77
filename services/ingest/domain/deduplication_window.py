"""Deduplication window of recent message ids: a retried request is published once.

Best effort, per process: scoring drops repeats exactly. The window counts by the time of receipt,
never by a client's clock, and is bounded in seconds and in ids.
"""

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b

from libs.common.ids import WorkspaceId

WINDOW_SECONDS = 3_600
MAX_IDS = 500_000
"""About 80 MB."""
MessageId = bytes
"""Workspace, source and message id, or its digest where it is long."""
_LONGEST = 64
_SLOT_MICROSECONDS = 1_000_000
"""Microseconds of receipt whose ids expire together."""
_SLOT_IDS = 10_000
"""Ids that expire together at most: each expiry is short, whatever the clock does."""


def deduplication_key(workspace: WorkspaceId, source: str, message_id: str) -> MessageId:
    """Return the key of a message id."""
    return key_with_id(f"{workspace}\0{source}\0".encode(), message_id.encode("utf-8", "replace"))


def key_with_id(source_prefix: bytes, message_id: bytes) -> MessageId:
    """Return the key of a message id; long ids are hashed, so that each takes bounded memory."""
    if len(message_id) <= _LONGEST:
        return source_prefix + message_id
    return source_prefix + b"\0" + blake2b(message_id, digest_size=16).digest()


class DeduplicationWindow:
    """A bounded window of message ids."""

    def __init__(self, seconds: int = WINDOW_SECONDS, ids: int = MAX_IDS) -> None:
        self._span = seconds * 1_000_000
        self._ids = ids
        self._seen: set[MessageId] = set()
        self._slots: deque[tuple[int, list[MessageId]]] = deque()
        """(instant of its first id, ids) of each slot, oldest first; each id is in one slot."""

    def find_known(self, message_ids: Iterable[MessageId]) -> set[MessageId]:
        """Return the ids that are in the window."""
        return self._seen.intersection(message_ids)

    def add(self, message_ids: Iterable[MessageId], now: int) -> None:
        """Add ids that Kafka has acknowledged at `now` (µs), and expire the oldest ones."""
        new_ids = [message_id for message_id in message_ids if message_id not in self._seen]
        self._seen.update(new_ids)
        since, newest = self._slots[-1] if self._slots else (now, [])
        if newest and now - since < _SLOT_MICROSECONDS and len(newest) < _SLOT_IDS:
            newest.extend(new_ids)
        else:
            self._slots.append((now, new_ids))
        while self._slots and self._slots[0][0] <= now - self._span:
            self._forget(len(self._slots[0][1]))
        while len(self._seen) > self._ids:
            self._forget(len(self._seen) - self._ids)

    def _forget(self, most: int) -> None:
        """Remove at most `most` ids of the oldest slot."""
        oldest = self._slots[0][1]
        self._seen.difference_update(oldest[:most])
        del oldest[:most]
        if not oldest:
            self._slots.popleft()
