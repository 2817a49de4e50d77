"""Rows of contacts and accounts in folds: as read, and as collected for one transaction."""

from typing import NamedTuple

import msgspec

from libs.common.ids import ContactId
from services.scoring.domain.move import Move
from services.scoring.domain.publication import PublishedPosition
from services.scoring.domain.state_snapshot import StateSnapshot


class FoldKey(NamedTuple):
    """A contact or an account in one cycle version; a fold is `cycle@version`."""

    subject: ContactId
    fold: str


class PublicationKey(NamedTuple):
    """A contact or an account in one cycle."""

    subject: ContactId
    cycle: str


_encoder = msgspec.msgpack.Encoder()


class FoldStateRow(msgspec.Struct, frozen=True):
    """A contact's stored fold: encoded state, number of open transitions, and timer if any."""

    state: bytes
    stored_seq: int
    due: int | None


class OpenMove(msgspec.Struct, frozen=True, gc=False):
    """A stored transition that is not closed, decoded and as stored."""

    move: Move
    raw: bytes
    received_at: int | None


class FoldRows(msgspec.Struct):
    """The rows that a fold transaction writes.

    The version of every contact in `contacts` goes up by one.
    """

    contacts: dict[str, tuple[str | None, bool]] = {}
    """{contact id: (profile or None, whether its identity changed)}"""
    states: list[tuple[str, str, bytes, int]] = []
    """(contact id, fold, state, stored_seq) of folds with a stored state."""
    new_states: list[tuple[str, str, bytes, int]] = []
    """The same of folds without one: an upsert costs half as much again as an update."""
    deleted_states: list[FoldKey] = []
    """Folds of contacts that have no touchpoint left."""
    closed_moves: list[tuple[str, str, int]] = []
    """(contact id, fold, seq)"""
    transitions: list[tuple[str, str, int, int, bytes, int | None]] = []
    publications: list[tuple[str, str, int, bytes, str, bool]] = []
    timers: list[tuple[str, str, int]] = []
    deleted_timers: list[FoldKey] = []
    snapshot_cuts: list[tuple[str, str, int]] = []
    """(contact id, fold, count) of re-folds: snapshots with a higher count are void."""
    deleted_snapshots: list[tuple[str, str, int]] = []
    """(contact id, fold, count)"""
    snapshots: list[tuple[str, str, StateSnapshot]] = []

    def add_publication(self, key: PublicationKey, published: PublishedPosition) -> None:
        """Add a published position."""
        position = published.position
        self.publications.append(
            (
                *key,
                published.sequence,
                _encoder.encode(published),
                position.stage,
                position.dormant,
            )
        )
