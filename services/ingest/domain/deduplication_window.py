"""Message ids that were accepted lately, so that a retry of an answered request is not published twice.

Best effort, for one process: scoring drops repeats exactly. The window is by the time of receipt, never by what a client's
clock says, and holds so many seconds or so many ids, whichever is less.
"""

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b

WINDOW_SECONDS = 3_600
MAX_IDS = 500_000
"""About 80 MB."""
MessageId = bytes
"""Workspace, source and message id, or its digest where it is long."""
_LONGEST = 64
_TOGETHER = 1_000_000
"""Microseconds of what leaves together."""
_AT_MOST = 10_000
"""Ids that leave together, so that none takes long, whatever the clock does."""


def deduplication_key(workspace: str, source: str, message_id: str) -> MessageId:
    """Return what is kept of an id."""
    return key_with_id(f"{workspace}\0{source}\0".encode(), message_id.encode("utf-8", "replace"))


def key_with_id(place: bytes, message_id: bytes) -> MessageId:
    """Return what is kept of an id of a source: so much memory and no more, whatever senders call their messages."""
    if len(message_id) <= _LONGEST:
        return place + message_id
    return place + b"\0" + blake2b(message_id, digest_size=16).digest()


class DeduplicationWindow:
    """A bounded window of message ids."""

    def __init__(self, seconds: int = WINDOW_SECONDS, ids: int = MAX_IDS) -> None:
        self._span = seconds * 1_000_000
        self._ids = ids
        self._seen: set[MessageId] = set()
        self._came: deque[tuple[int, list[MessageId]]] = deque()
        """What came within a second, oldest first, by the instant of its first; each id stands here once."""

    def find_known(self, message_ids: Iterable[MessageId]) -> set[MessageId]:
        """Return those of some ids that are in the window."""
        return self._seen.intersection(message_ids)

    def add(self, message_ids: Iterable[MessageId], now: int) -> None:
        """Note ids, each once, that Kafka has as of `now` (microseconds), and forget those that fall out of the window."""
        new = [one for one in message_ids if one not in self._seen]
        self._seen.update(new)
        since, newest = self._came[-1] if self._came else (now, [])
        if newest and now - since < _TOGETHER and len(newest) < _AT_MOST:
            newest.extend(new)
        else:
            self._came.append((now, new))
        while self._came and self._came[0][0] <= now - self._span:
            self._forget(len(self._came[0][1]))
        while len(self._seen) > self._ids:
            self._forget(len(self._seen) - self._ids)

    def _forget(self, most: int) -> None:
        """Forget the oldest ids, so many at most, of what came in one second."""
        oldest = self._came[0][1]
        self._seen.difference_update(oldest[:most])
        del oldest[:most]
        if not oldest:
            self._came.popleft()
