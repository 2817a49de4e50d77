"""Message ids that were accepted lately, so that a retry of an answered request is not published twice.

Best effort, for one process: scoring drops repeats exactly. The window is by the time of receipt, never by what a client's
clock says, and holds so many seconds or so many ids, whichever is less.
"""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

SECONDS = 3_600
IDS = 500_000
"""About 100 MB."""
MessageId = tuple[str, str, str | bytes]
"""(workspace, source, message id, or its digest where it is long)"""
_LONGEST = 64


def place_of(workspace: str, source: str, message_id: str) -> MessageId:
    """Return what is kept of an id: so much memory and no more, whatever senders call their messages."""
    if len(message_id) <= _LONGEST and message_id.isascii():
        return workspace, source, message_id
    return workspace, source, blake2b(message_id.encode("utf-8", "replace"), digest_size=16).digest()


class Recent:
    """A bounded window of message ids."""

    def __init__(self, seconds: int = SECONDS, ids: int = IDS) -> None:
        self._span = seconds * 1_000_000
        self._ids = ids
        self._seen: OrderedDict[MessageId, int] = OrderedDict()
        """In order of receipt: the first is the oldest."""

    def __contains__(self, message_id: MessageId) -> bool:
        """Return whether the id is in the window."""
        return message_id in self._seen

    def add(self, message_ids: Iterable[MessageId], now: int) -> None:
        """Note ids that Kafka has as of `now` (microseconds), and forget those that fall out of the window."""
        seen = self._seen
        for message_id in message_ids:
            seen.setdefault(message_id, now)
        while seen and (len(seen) > self._ids or next(iter(seen.values())) <= now - self._span):
            seen.popitem(last=False)
