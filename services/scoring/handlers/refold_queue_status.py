"""The re-fold queue for operators."""

import msgspec

from libs.common.db.connection import Session
from services.scoring.repository import schedule
from services.scoring.repository.schedule import WaitingRefolds


class RefoldQueueStatus(msgspec.Struct, frozen=True):
    """Size of the queue, by reason with the age of the oldest entry, and number of fold errors."""

    contacts: int
    reasons: dict[str, WaitingRefolds]
    errors: int
    """Folds that raised; they are folded again every minute."""


class RefoldQueue:
    """Reads the re-fold queue."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get_status(self) -> RefoldQueueStatus:
        """Return the present status of the queue."""
        async with self._session.acquire() as connection:
            reasons = await schedule.count_waiting_refolds(connection)
            errors = await schedule.count_fold_errors(connection)
        return RefoldQueueStatus(
            sum(waiting.contacts for waiting in reasons.values()), reasons, errors
        )
