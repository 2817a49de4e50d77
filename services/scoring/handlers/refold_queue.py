"""What waits in the re-fold queue."""

import msgspec

from libs.common.db.connection import Session
from services.scoring.repository import schedule
from services.scoring.repository.schedule import WaitingRefolds


class RefoldQueueStatus(msgspec.Struct, frozen=True):
    """The queue: how many contacts wait, why, and how long the oldest of them."""

    contacts: int
    reasons: dict[str, WaitingRefolds]
    errors: int
    """Contacts whose fold raised; they are tried again every minute."""


class RefoldQueue:
    """Reads the re-fold queue."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get_status(self) -> RefoldQueueStatus:
        """Return the queue as it is."""
        async with self._session.acquire() as connection:
            reasons = await schedule.count_waiting_refolds(connection)
            errors = await schedule.count_fold_errors(connection)
        return RefoldQueueStatus(sum(w.contacts for w in reasons.values()), reasons, errors)
