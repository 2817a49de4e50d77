"""One transaction's folding: loads what is held, takes each contact forward, gathers the rows and the messages."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.failpoints import hit
from libs.common.messages import Touchpoint
from libs.common.observability import logs, metrics
from services.scoring.domain import contact_profile, fold_state
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold_step import StoredFold, fold_and_publish
from services.scoring.domain.identity import Key
from services.scoring.domain.publication import FoldContext, PublishedPosition
from services.scoring.domain.signal_classifier import FoldEvent
from services.scoring.domain.state_snapshot import StateSnapshot, retained_counts
from services.scoring.handlers.fold_results import CachedContact, FoldResults
from services.scoring.repository import (
    cycle_versions,
    fold_states,
    state_snapshots,
    touchpoint_history,
)
from services.scoring.repository.fold_states import FoldKey, FoldStateRow, OpenMove, RefoldRequest
from services.scoring.repository.identity import LockedContact
from services.scoring.repository.touchpoint_history import ContactHistory

log = logs.get_logger(__name__)
FOLDS_PER_YIELD = 250
"""After so many contacts others get their turn: heartbeats to Kafka above all."""
HistoryLoader = Callable[
    [Connection, Mapping[str, Key | None]], Awaitable[dict[str, ContactHistory]]
]
"""What reads subjects' histories after their keys."""


class RefoldPlan(msgspec.Struct):
    """Contacts to fold again: from which key, from which checkpoints, and how many stored touchpoints that takes."""

    froms: dict[str, Key]
    starts: dict[FoldKey, StateSnapshot]
    lengths: dict[str, int] = {}


class FoldTransaction(FoldResults):
    """What one transaction does to its locked contacts."""

    def __init__(
        self,
        cycles: Sequence[ActiveCycle],
        locked: dict[str, LockedContact],
        cache: dict[str, CachedContact],
        *,
        histories: HistoryLoader = touchpoint_history.get_histories,
    ) -> None:
        super().__init__(locked)
        self.cycles = cycles
        self._shadows = [cycle.engine.fold for cycle in cycles if not cycle.live]
        self._filled_to: dict[str, str | None] = {}
        self.cache = cache
        self._histories = histories
        self.profiles: dict[str, contact_profile.Profile] = {}
        self.failed: list[tuple[str, str, str]] = []
        """(contact_id, fold, error) of folds that raised."""
        self.retried: dict[str, RefoldRequest] = {}
        """Their contacts, from where they have to be folded again once the rule is mended."""

    async def load(self, connection: Connection, contacts: Iterable[str]) -> None:
        """Bring in what is held of the contacts: from the cache where its version is the one locked, else by one query.

        How far shadows are filled is read here, behind the locks: who fills a contact locks it before the cursor moves.
        """
        if self._shadows:
            self._filled_to = await cycle_versions.get_fill_cursors(connection, self._shadows)
        missing = []
        for contact in contacts:
            entry = self.cache.pop(contact, None)
            if (
                entry is not None
                and entry.version == self.locked[contact].version
                and self._of_now(entry)
            ):
                self.entries[contact] = entry
            else:
                missing.append(contact)
        rows = await fold_states.get_states(connection, missing) if missing else {}
        told = await fold_states.get_publications(connection, missing) if missing else {}
        for contact in missing:
            self.entries[contact] = self._entry(contact, rows, told)

    def _of_now(self, entry: CachedContact) -> bool:
        """Return whether a cached entry holds the folds of now; others have been published or begun since."""
        return len(entry.folds) == len(self.cycles) and all(
            c.engine.fold in entry.folds for c in self.cycles
        )

    def _filled(self, contact: str) -> Sequence[ActiveCycle]:
        """Return the cycles to fold for the contact: not a shadow that its past is still to be filled into.

        Somebody new has no past, wherever the cursor stands.
        """
        if not self._shadows:
            return self.cycles
        held = self.entries[contact].folds
        known = any(c.live and not held[c.engine.fold].state.is_empty for c in self.cycles)
        return [
            c for c in self.cycles if c.live or not known or self._is_filled(contact, c.engine.fold)
        ]

    def _is_filled(self, contact: str, fold: str) -> bool:
        to = self._filled_to.get(fold)
        return to is None or contact <= to or not self.entries[contact].folds[fold].state.is_empty

    def _entry(
        self,
        contact: str,
        rows: dict[FoldKey, FoldStateRow],
        told: dict[FoldKey, PublishedPosition],
    ) -> CachedContact:
        row = self.locked[contact]
        entry = CachedContact(row.version, {}, {}, set())
        for cycle in self.cycles:
            engine = cycle.engine
            stored = rows.get((contact, engine.fold))
            fold = (
                fold_state.decode_state(stored.state, engine.atoms)
                if stored
                else engine.initial_state()
            )
            last = told.get((contact, engine.name)) if cycle.live else None
            entry.folds[engine.fold] = StoredFold(fold, stored.stored_seq if stored else 0, last)
            entry.due[engine.fold] = stored.due if stored else None
            if stored:
                entry.stored.add(engine.fold)
        return entry

    def is_late(self, contact: str, first: tuple[int, str, str]) -> bool:
        """Return whether a touchpoint at `first` lies before what is folded."""
        held = self.entries[contact].folds.values()
        return any(not h.state.is_empty and first <= h.state.key for h in held)

    async def fold_forward(
        self, connection: Connection, batch: dict[str, list[Touchpoint]], until: int = -1
    ) -> None:
        """Take contacts forward in order: fold their new touchpoints and make the flips due up to `until`."""
        tails = await self._tails(connection, batch)
        received = {t.key: t.received_at for touchpoints in batch.values() for t in touchpoints}
        known = FoldContext(received, received.keys(), frontier=until, until=until)
        for number, (contact, touchpoints) in enumerate(batch.items()):
            if number % FOLDS_PER_YIELD == FOLDS_PER_YIELD - 1:
                await asyncio.sleep(0)
            self.bump_version(contact)
            for cycle in self._filled(contact):
                occurrences = [cycle.classifier.to_fold_event(t) for t in touchpoints]
                held = self.entries[contact].folds[cycle.engine.fold]
                tail = tails.get((contact, cycle.engine.fold), ())
                self._take(contact, cycle, held, occurrences, tail, known)

    async def _tails(
        self, connection: Connection, contacts: Iterable[str]
    ) -> dict[FoldKey, list[OpenMove]]:
        """Return the stored moves from the fold's last one on, where moves by time are stored after it."""
        places = {
            (contact, cycle.engine.fold): held.state.seq
            for contact in contacts
            for cycle in self.cycles
            if (held := self.entries[contact].folds[cycle.engine.fold]).stored_seq > held.state.seq
            or self._told_otherwise(held, cycle)
        }
        return await fold_states.list_open_moves(connection, places) if places else {}

    def _told_otherwise(self, held: StoredFold, cycle: ActiveCycle) -> bool:
        """Return whether what was published is not this version's: another one's, or nothing of what is folded."""
        if held.published is not None and held.published.version == cycle.engine.version:
            return False
        return cycle.live and not held.state.is_empty

    async def plan_refold(self, connection: Connection, froms: dict[str, Key]) -> "RefoldPlan":
        """Find where contacts that have to be folded again from a key can begin."""
        found = RefoldPlan(froms, await state_snapshots.get_before(connection, froms))
        for contact in froms:
            for name, held in self.entries[contact].folds.items():
                start = found.starts.get((contact, name))
                beyond = held.state.count - (start.count if start else 0)
                found.lengths[contact] = max(found.lengths.get(contact, 0), beyond)
        return found

    async def refold(
        self,
        connection: Connection,
        plan: "RefoldPlan",
        contacts: Sequence[str],
        circumstances: dict[str, FoldContext],
    ) -> None:
        """Fold contacts again from their last checkpoints before the plan's keys."""
        histories = await self._histories(connection, {c: self._since(c, plan) for c in contacts})
        starts = {
            (c, cycle.engine.fold): plan.starts.get((c, cycle.engine.fold))
            for c in contacts
            for cycle in self.cycles
        }
        states_ = {place: self._start(place, start) for place, start in starts.items()}
        stored = await fold_states.list_open_moves(
            connection, {place: state_.seq for place, state_ in states_.items()}
        )
        for contact in contacts:
            self.bump_version(contact)
            for cycle in self._filled(contact):
                place = (contact, cycle.engine.fold)
                before = self.entries[contact].folds[place[1]]
                start = starts[place]
                held = StoredFold(states_[place], before.stored_seq, before.published)
                occurrences, received = histories[contact].to_fold_events(
                    cycle, start.key if start else None
                )
                known = msgspec.structs.replace(
                    circumstances[contact], received=received, whole=start is None
                )
                if known.reason == "corrected" and not before.state.is_empty:
                    # What the contact never folded is new, and no correction.
                    known = msgspec.structs.replace(known, folded_to=before.state.key)
                self.rows.cuts.append((*place, held.state.count))
                self._take(
                    contact,
                    cycle,
                    held,
                    occurrences,
                    stored[place],
                    known,
                    retained_counts(before.state.count),
                )

    def _since(self, contact: str, plan: "RefoldPlan") -> Key | None:
        """Return the key after which a contact's touchpoints are needed: that of the earliest of its cycles' starts."""
        starts = [plan.starts.get((contact, cycle.engine.fold)) for cycle in self._filled(contact)]
        keys = [start.key for start in starts if start is not None]
        return min(keys) if len(keys) == len(starts) else None

    def _start(self, place: FoldKey, start: StateSnapshot | None) -> fold_state.FoldState:
        engine = next(c.engine for c in self.cycles if c.engine.fold == place[1])
        return (
            engine.initial_state()
            if start is None
            else fold_state.decode_state(start.state, engine.atoms)
        )

    async def rebuild_profiles(self, connection: Connection, contacts: Iterable[str]) -> None:
        """Build contacts' profiles from nothing: some of what they told has gone to somebody else, or was excluded."""
        for contact, touchpoints in (
            await touchpoint_history.list_trait_touchpoints(connection, contacts)
        ).items():
            self.profiles[contact] = {}
            for touchpoint in touchpoints:
                contact_profile.merge_traits(self.profiles[contact], touchpoint)
            if contact_profile.encode_profile(self.profiles[contact]) != (
                self.locked[contact].profile or "{}"
            ):
                self.told.add(contact)
            self.bump_version(contact)

    def update_profile(self, contact: str, touchpoints: Sequence[Touchpoint]) -> None:
        """Add the traits of touchpoints to the contact's profile; the last value in key order stands."""
        telling = [t for t in touchpoints if t.type == "identify" and t.traits]
        if not telling:
            return
        if contact not in self.profiles:
            self.profiles[contact] = contact_profile.decode_profile(self.locked[contact].profile)
        if sum(contact_profile.merge_traits(self.profiles[contact], t) for t in telling):
            self.told.add(contact)
        self.bump_version(contact)

    def bump_version(self, contact: str, *, identity: bool = False) -> None:
        """Raise the contact's version; a profile that was looked at is written."""
        found = self.profiles.get(contact)
        _, before = self.rows.contacts.get(contact, (None, False))
        self.rows.contacts[contact] = (
            None if found is None else contact_profile.encode_profile(found),
            identity or before,
        )

    def _take(
        self,
        contact: str,
        cycle: ActiveCycle,
        held: StoredFold,
        occurrences: list[FoldEvent],
        stored: Sequence[OpenMove],
        known: FoldContext,
        kept_before: frozenset[int] | None = None,
    ) -> None:
        engine = cycle.engine
        if held.state.is_empty and not occurrences:
            self.clear_contact(contact, engine, stored)
            return
        began = held.state.count
        if known.reason is None and self._told_otherwise(
            self.entries[contact].folds[engine.fold], cycle
        ):
            known = msgspec.structs.replace(known, reason="cycle_published")
        base = (
            next((m.move for m in stored if m.move.seq == held.state.seq), None) if stored else None
        )
        try:
            hit("in_fold")
            outcome = fold_and_publish(
                engine,
                held,
                occurrences,
                until=known.until,
                context=known,
                base=base,
                publish=cycle.live,
            )
        except Exception as error:  # noqa: BLE001
            log.error(  # noqa: TRY400
                "fold_error", contact_id=contact, cycle=engine.name, error=type(error).__name__
            )
            metrics.FOLD_ERRORS.labels(cycle=engine.name).inc()
            self.failed.append((contact, engine.fold, f"{type(error).__name__}: {error}"))
            self.retried[contact] = RefoldRequest(
                "fold_error", occurrences[0].key if occurrences else held.state.key
            )
            return
        self.add_result(contact, engine, outcome, stored, known)
        self.add_snapshots((contact, engine.fold), outcome, kept_before, began)

    async def store_fold_errors(self, connection: Connection) -> None:
        """Mark folds that raised: their last good state stays, their touchpoints are stored, the queue tries again."""
        await fold_states.upsert_fold_errors(connection, self.failed)
        await fold_states.enqueue_refolds(connection, self.retried)

    def update_cache(self) -> None:
        """After the commit: cache what is now true."""
        broken = {contact for contact, *_ in self.failed}
        for contact, entry in self.entries.items():
            if contact not in broken and contact in self.rows.contacts:
                entry.version = self.locked[contact].version + 1
                self.cache[contact] = entry
