"""Input of a fold: a contact's touchpoints after corrections, and its manual stages."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from libs.common import ids
from libs.common.db.connection import Connection
from libs.common.ids import ContactId, WorkspaceId
from libs.common.messages import Touchpoint
from services.scoring.domain.correction import (
    ManualStage,
    TouchpointVerdict,
    apply_verdicts,
    manual_stage_events,
)
from services.scoring.domain.cycle import ActiveCycle
from services.scoring.domain.identity import Key
from services.scoring.domain.signal_classifier import FoldEvent
from services.scoring.repository import corrections

_decode = msgspec.json.Decoder(Touchpoint).decode
FIRST_KEY: Key = (-1, "", "")
"""Sorts before every touchpoint key."""


class ContactHistory(msgspec.Struct):
    """The touchpoints and manual stages of one contact after a key, in key order."""

    touchpoints: list[Touchpoint]
    manuals: Sequence[ManualStage]

    def to_fold_events(
        self, cycle: ActiveCycle, after: Key | None
    ) -> tuple[list[FoldEvent], dict[Key, int]]:
        """Return the cycle's fold events after a key, in key order, and {key: time of receipt}."""
        touchpoints = [t for t in self.touchpoints if after is None or t.key > after]
        events = [cycle.classifier.to_fold_event(t) for t in touchpoints]
        received = {t.key: t.received_at for t in touchpoints}
        manuals = [m for m in self.manuals if after is None or m.key > after]
        if manuals:
            events = sorted([*events, *manual_stage_events(cycle.engine, manuals)], key=_key)
            received |= {m.key: m.recorded_at for m in manuals}
        return events, received


def _key(event: FoldEvent) -> Key:
    return event.key


async def get_histories(
    connection: Connection, since: Mapping[ContactId, Key | None]
) -> dict[ContactId, ContactHistory]:
    """Return the contacts' histories after their keys (None: from the first touchpoint)."""
    by_contact: dict[ContactId, list[Touchpoint]] = {contact: [] for contact in since}
    keys = [key or FIRST_KEY for key in since.values()]
    rows = await connection.fetch(
        "SELECT t.contact_id, t.data FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) "
        "AS w (contact_id, at, source, message_id) "
        "JOIN scoring.touchpoints t ON t.contact_id = w.contact_id AND t.occurred_at >= w.at "
        "AND (t.occurred_at, t.source, t.message_id) > (w.at, w.source, w.message_id) "
        "ORDER BY t.contact_id, t.occurred_at, t.source, t.message_id",
        list(since),
        [key[0] for key in keys],
        [key[1] for key in keys],
        [key[2] for key in keys],
    )
    for contact, data in rows:
        by_contact[contact].append(_decode(data))
    verdicts = await corrections.get_verdicts(connection, since)
    manuals = await corrections.get_manual_stages(connection, since)
    return {
        contact: ContactHistory(
            apply_verdicts(touchpoints, verdicts.get(contact, {})), manuals.get(contact, ())
        )
        for contact, touchpoints in by_contact.items()
    }


async def list_all_touchpoints(
    connection: Connection, contacts: Iterable[ContactId]
) -> dict[ContactId, list[Touchpoint]]:
    """Return every stored touchpoint of the contacts in key order, ignoring corrections."""
    by_contact: dict[ContactId, list[Touchpoint]] = {contact: [] for contact in contacts}
    rows = await connection.fetch(
        "SELECT contact_id, data FROM scoring.touchpoints WHERE contact_id = ANY($1::text[]) "
        "ORDER BY contact_id, occurred_at, source, message_id",
        sorted(by_contact),
    )
    for contact, data in rows:
        by_contact[contact].append(_decode(data))
    return by_contact


async def list_touchpoints(
    connection: Connection, contacts: Iterable[ContactId]
) -> dict[ContactId, list[Touchpoint]]:
    """Return the contacts' touchpoints in key order, with corrections applied."""
    by_contact = await list_all_touchpoints(connection, contacts)
    verdicts = await corrections.get_verdicts(connection, by_contact)
    return {
        contact: apply_verdicts(touchpoints, verdicts.get(contact, {}))
        for contact, touchpoints in by_contact.items()
    }


async def list_derived_touchpoints(
    connection: Connection, workspace: WorkspaceId, causes: Iterable[Key]
) -> list[tuple[ContactId, Key, Key]]:
    """Return (contact, key, cause) of the touchpoints of other contacts that these have caused.

    A derived touchpoint has the instant of its cause and a message id computed from it.
    """
    by_derived_id = {
        (cause[0], ids.derived_message_id(workspace, *cause[1:])): cause for cause in causes
    }
    rows = await connection.fetch(
        "SELECT t.contact_id, t.occurred_at, t.source, t.message_id FROM scoring.touchpoints t "
        "JOIN unnest($2::bigint[], $3::text[]) AS w (at, message_id) "
        "ON (t.occurred_at, t.message_id) = (w.at, w.message_id) "
        "WHERE t.workspace = $1 ORDER BY 1, 2, 3, 4",
        workspace,
        [at for at, _ in by_derived_id],
        [message_id for _, message_id in by_derived_id],
    )
    return [(r[0], (r[1], r[2], r[3]), by_derived_id[r[1], r[3]]) for r in rows]


async def get_last_historical_key(connection: Connection, contact: ContactId) -> Key | None:
    """Return the key of the contact's last touchpoint with `mode=historical`, or None."""
    row = await connection.fetchrow(
        "SELECT occurred_at, source, message_id FROM scoring.touchpoints WHERE contact_id = $1 "
        "AND data::json->>'mode' = 'historical' "
        "ORDER BY occurred_at DESC, source DESC, message_id DESC LIMIT 1",
        contact,
    )
    return (row[0], row[1], row[2]) if row else None


async def list_trait_touchpoints(
    connection: Connection, contacts: Iterable[ContactId]
) -> dict[ContactId, list[Touchpoint]]:
    """Return the contacts' identify calls, which carry traits, with corrections applied.

    Their order is not defined.
    """
    by_contact: dict[ContactId, list[Touchpoint]] = {contact: [] for contact in contacts}
    if not by_contact:
        return by_contact
    rows = await connection.fetch(
        "SELECT contact_id, data FROM scoring.touchpoints WHERE contact_id = ANY($1::text[]) "
        "AND data::json->>'type' = 'identify'",
        sorted(by_contact),
    )
    for contact, data in rows:
        by_contact[contact].append(_decode(data))
    verdicts: dict[ContactId, dict[Key, TouchpointVerdict]] = await corrections.get_verdicts(
        connection, by_contact
    )
    return {
        contact: apply_verdicts(touchpoints, verdicts.get(contact, {}))
        for contact, touchpoints in by_contact.items()
    }
