"""Contacts on which the batches of one process work: a batch that meets another waits here.

Without it the batch would wait for a row lock of PostgreSQL. Reservations come between identifiers
and contacts in the order of locks: a batch with a reservation waits for contacts only, so batches
never wait for each other in a circle. Between processes the row locks decide alone.
"""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from libs.common.ids import ContactId


class ContactReservations:
    """The reservations of the batches that are being handled."""

    def __init__(self) -> None:
        self.held: list[BatchReservation] = []

    def batch(self) -> "BatchReservation":
        """Return the reservation of a new batch, to be released by `with` after its commit."""
        return BatchReservation(self)


class BatchReservation:
    """The contacts of one batch; none before `reserve`."""

    def __init__(self, reservations: ContactReservations) -> None:
        self._held = reservations.held
        self.contacts: frozenset[ContactId] = frozenset()
        self.released = asyncio.Event()

    async def reserve(self, contacts: Iterable[ContactId]) -> None:
        """Wait until no other batch has one of the contacts, then reserve them all.

        What the batch had before is released first, so that two batches never wait for each other.
        """
        self.release()
        wanted = frozenset(contacts)
        while blocking := next((r for r in self._held if not r.contacts.isdisjoint(wanted)), None):
            await blocking.released.wait()
        self.contacts, self.released = wanted, asyncio.Event()
        self._held.append(self)

    def release(self) -> None:
        """Release the contacts and wake the batches that wait for one of them."""
        if self in self._held:
            self._held.remove(self)
            self.released.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
