"""Stored folds of locked contacts, loaded from the cache or from PostgreSQL."""

from collections.abc import Iterable, Sequence

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.fold_step import StoredFold
from services.scoring.domain.identity import Key
from services.scoring.domain.publication import PublishedPosition
from services.scoring.handlers.pending_writes import CachedContact, PendingWrites
from services.scoring.repository import cycle_versions, fold_states
from services.scoring.repository.fold_rows import FoldKey, FoldStateRow, PublicationKey
from services.scoring.repository.identity import LockedContact


class LoadedFolds(PendingWrites):
    """The stored folds of locked contacts, with the results that replace them.

    A cached contact is used only if its version is the locked one.
    """

    def __init__(
        self,
        cycles: Sequence[ActiveCycle],
        locked: dict[ContactId, LockedContact],
        cache: dict[ContactId, CachedContact],
    ) -> None:
        super().__init__(locked)
        self.cycles = cycles
        self.cache = cache
        self._shadows = [cycle.engine.fold for cycle in cycles if not cycle.live]
        self._filled_to: dict[str, str | None] = {}

    async def load(self, connection: Connection, contacts: Iterable[ContactId]) -> None:
        """Load the folds of locked contacts: from the cache, the rest with one query per table.

        Cache entries are popped: folding changes them in place, and a rolled-back transaction must
        leave none behind. The fill cursors of shadows are read here, under the contact locks: a
        rollout locks the contacts that it fills before it moves the cursor.
        """
        if self._shadows:
            self._filled_to = await cycle_versions.get_fill_cursors(connection, self._shadows)
        missing = []
        for contact in contacts:
            entry = self.cache.pop(contact, None)
            if (
                entry is not None
                and entry.version == self.locked[contact].version
                and self._has_active_folds(entry)
            ):
                self.entries[contact] = entry
            else:
                missing.append(contact)
        states = await fold_states.get_states(connection, missing) if missing else {}
        published = await fold_states.get_publications(connection, missing) if missing else {}
        for contact in missing:
            self.entries[contact] = self._build_entry(contact, states, published)

    def _has_active_folds(self, entry: CachedContact) -> bool:
        """Return whether a cached entry has exactly the active folds; a rollout changes them."""
        return len(entry.folds) == len(self.cycles) and all(
            c.engine.fold in entry.folds for c in self.cycles
        )

    def _build_entry(
        self,
        contact: ContactId,
        states: dict[FoldKey, FoldStateRow],
        published: dict[PublicationKey, PublishedPosition],
    ) -> CachedContact:
        entry = CachedContact(self.locked[contact].version, {}, {}, set())
        for cycle in self.cycles:
            engine = cycle.engine
            row = states.get(FoldKey(contact, engine.fold))
            state = engine.decode_state(row.state) if row else engine.initial_state()
            position = published.get(PublicationKey(contact, engine.name)) if cycle.live else None
            entry.folds[engine.fold] = StoredFold(state, row.stored_seq if row else 0, position)
            entry.due[engine.fold] = row.due if row else None
            if row:
                entry.stored.add(engine.fold)
        return entry

    def is_late(self, contact: ContactId, key: Key) -> bool:
        """Return whether a touchpoint at `key` is not after the last folded one, in any fold."""
        folds = self.entries[contact].folds.values()
        return any(not fold.state.is_empty and key <= fold.state.key for fold in folds)

    def _cycles_to_fold(self, contact: ContactId) -> Sequence[ActiveCycle]:
        """Return the active cycles, without shadows whose fill has yet to reach the contact.

        A contact without any folded touchpoint is folded in every shadow, wherever the cursor is.
        """
        if not self._shadows:
            return self.cycles
        folds = self.entries[contact].folds
        has_history = any(c.live and not folds[c.engine.fold].state.is_empty for c in self.cycles)
        return [
            c
            for c in self.cycles
            if c.live or not has_history or self._is_filled(contact, c.engine.fold)
        ]

    def _is_filled(self, contact: ContactId, fold: str) -> bool:
        cursor = self._filled_to.get(fold)
        return (
            cursor is None
            or contact <= cursor
            or not self.entries[contact].folds[fold].state.is_empty
        )

    def update_cache(self) -> None:
        """Cache the new folds of written contacts; to be called after the commit."""
        failed = {contact for contact, *_ in self.failed}
        for contact, entry in self.entries.items():
            if contact not in failed and contact in self.rows.contacts:
                entry.version = self.locked[contact].version + 1
                self.cache[contact] = entry
