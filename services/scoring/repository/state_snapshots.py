"""State snapshots of contacts' folds (table `checkpoints`).

Operational data: without a snapshot a re-fold starts further back.
"""

from collections.abc import Mapping, Sequence

from libs.common.db.connection import Connection
from libs.common.ids import ContactId
from services.scoring.domain.identity import Key
from services.scoring.domain.state_snapshot import StateSnapshot
from services.scoring.repository.fold_rows import FoldKey


async def get_before(
    connection: Connection, keys: Mapping[ContactId, Key]
) -> dict[FoldKey, StateSnapshot]:
    """Return the last snapshot before the contact's key, for each contact and fold that has one."""
    rows = await connection.fetch(
        "SELECT w.contact_id, k.fold, k.count, k.occurred_at, k.source, k.message_id, k.state "
        "FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) "
        "AS w (contact_id, at, source, message_id) "
        "CROSS JOIN LATERAL (SELECT DISTINCT ON (k.fold) "
        "k.fold, k.count, k.occurred_at, k.source, k.message_id, k.state "
        "FROM scoring.checkpoints k WHERE k.contact_id = w.contact_id "
        "AND (k.occurred_at, k.source, k.message_id) < (w.at, w.source, w.message_id) "
        "ORDER BY k.fold, k.count DESC) k",
        list(keys),
        [key[0] for key in keys.values()],
        [key[1] for key in keys.values()],
        [key[2] for key in keys.values()],
    )
    return {FoldKey(r[0], r[1]): StateSnapshot(r[2], (r[3], r[4], r[5]), r[6]) for r in rows}


async def update_snapshots(
    connection: Connection,
    cuts: Sequence[tuple[str, str, int]],
    deleted: Sequence[tuple[str, str, int]],
    new: Sequence[tuple[str, str, StateSnapshot]],
) -> None:
    """Delete void and superseded snapshots, then insert new ones.

    `cuts` and `deleted` have (contact id, fold, count): void is every snapshot with a count above
    its cut; of `deleted` exactly that count.
    """
    if cuts:
        await connection.execute(
            "DELETE FROM scoring.checkpoints k USING unnest($1::text[], $2::text[], $3::bigint[]) "
            "AS w (contact_id, fold, count) "
            "WHERE k.contact_id = w.contact_id AND k.fold = w.fold AND k.count > w.count",
            *(list(column) for column in zip(*cuts, strict=True)),
        )
    if deleted:
        await connection.execute(
            "DELETE FROM scoring.checkpoints k USING unnest($1::text[], $2::text[], $3::bigint[]) "
            "AS w (contact_id, fold, count) "
            "WHERE (k.contact_id, k.fold, k.count) = (w.contact_id, w.fold, w.count)",
            *(list(column) for column in zip(*deleted, strict=True)),
        )
    if new:
        await connection.copy_records_to_table(
            "checkpoints",
            schema_name="scoring",
            columns=["contact_id", "fold", "count", "occurred_at", "source", "message_id", "state"],
            records=[
                (contact, fold, snapshot.count, *snapshot.key, snapshot.state)
                for contact, fold, snapshot in new
            ],
        )
