"""Links between known identifiers.

A link is active if a touchpoint shows it or a correction makes it, unless the last correction
revokes it.
"""

from collections.abc import Iterable, Sequence

import msgspec

from libs.common.db.connection import Connection
from libs.common.db.notifications import with_notification
from libs.common.ids import ContactId, WorkspaceId
from services.scoring.domain.identifier_components import ComponentMember
from services.scoring.domain.identity import Identifier, Link, make_link
from services.scoring.repository import identifier_contacts

DEFERRED_CHANNEL = "scoring_deferred_links"
"""Notified when links are deferred."""
WorkspaceLink = tuple[WorkspaceId, Link]
"""(workspace, link)"""
_ACTIVE = "(seen OR verdict = 'link') AND verdict IS DISTINCT FROM 'unlink'"
_BOTH_DIRECTIONS = (
    "SELECT workspace, type, value, other_type, other_value "
    f"FROM scoring.links WHERE {_ACTIVE} "
    "UNION ALL SELECT workspace, other_type, other_value, type, value "
    f"FROM scoring.links WHERE {_ACTIVE}"
)
"""Every active link twice, once from each end."""


def _columns(links: Sequence[WorkspaceLink]) -> list[list[str]]:
    return [
        [w for w, _ in links],
        [a[0] for _, (a, _) in links],
        [a[1] for _, (a, _) in links],
        [b[0] for _, (_, b) in links],
        [b[1] for _, (_, b) in links],
    ]


async def list_unseen(
    connection: Connection, links: Iterable[WorkspaceLink]
) -> list[WorkspaceLink]:
    """Return the links that no stored touchpoint shows yet."""
    candidates = sorted(links)
    if not candidates:
        return []
    rows = await connection.fetch(
        "SELECT w.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
        "AS w (workspace, type, value, other_type, other_value) LEFT JOIN scoring.links l "
        "USING (workspace, type, value, other_type, other_value) "
        "WHERE l.seen IS NOT TRUE ORDER BY 1, 2, 3, 4, 5",
        *_columns(candidates),
    )
    return [(r[0], ((r[1], r[2]), (r[3], r[4]))) for r in rows]


async def upsert_links(
    connection: Connection,
    links: Sequence[WorkspaceLink],
    origin: str,
    *,
    seen: bool | None = None,
    verdict: str | None = None,
) -> None:
    """Insert or update links; a None leaves the stored `seen` or `verdict` alone.

    `seen` states that a touchpoint shows the links; `verdict` is the kind of the last correction;
    `origin` is the reason shown to operators.
    """
    await connection.execute(
        "INSERT INTO scoring.links "
        "(workspace, type, value, other_type, other_value, seen, verdict, why) "
        "SELECT w.*, coalesce($6, false), $7, $8 "
        "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS w "
        "ON CONFLICT (workspace, type, value, other_type, other_value) DO UPDATE SET "
        "seen = coalesce($6, links.seen), verdict = coalesce($7, links.verdict), "
        "why = excluded.why, noted_at = now()",
        *_columns(links),
        seen,
        verdict,
        origin,
    )


async def list_affected_contacts(
    connection: Connection, links: Iterable[WorkspaceLink], limit: int
) -> set[ContactId]:
    """Return the contacts that a change of these links can merge or split; locks nothing.

    These are the contacts of the links' ends and of the ends' direct neighbours, with the contacts
    that redirect to them, so that the caller can lock all of them in one order. At most `limit` + 2
    neighbours of an end are read: an identifier with more than `limit` links joins no contacts.
    """
    ends = sorted({(w, *end) for w, link in links for end in link})
    rows = await connection.fetch(
        "WITH ends AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) "
        "AS w (workspace, type, value)), "
        "near AS (SELECT e.workspace, l.other_type AS type, l.other_value AS value "
        "FROM ends e, LATERAL (SELECT other_type, other_value "
        f"FROM ({_BOTH_DIRECTIONS}) x WHERE (x.workspace, x.type, x.value) "
        "= (e.workspace, e.type, e.value) LIMIT $4) l) "
        "SELECT DISTINCT i.contact_id FROM (SELECT * FROM ends UNION SELECT * FROM near) n "
        "JOIN scoring.identifiers i USING (workspace, type, value)",
        [workspace for workspace, _, _ in ends],
        [kind for _, kind, _ in ends],
        [value for _, _, value in ends],
        limit + 2,
    )
    contacts = {r[0] for r in rows}
    return contacts | await identifier_contacts.list_redirecting(connection, contacts)


async def get_members(
    connection: Connection, contacts: Iterable[ContactId]
) -> dict[WorkspaceId, list[ComponentMember]]:
    """Return the contacts' known identifiers by workspace, in the order of creation."""
    members: dict[WorkspaceId, list[ComponentMember]] = {}
    for workspace, kind, value, contact, home, number in await connection.fetch(
        "SELECT workspace, type, value, contact_id, home, "
        "row_number() OVER (ORDER BY created_at, "
        "CASE type WHEN 'user_id' THEN 0 WHEN 'email' THEN 1 ELSE 2 END, number) "
        "FROM scoring.identifiers "
        "WHERE contact_id = ANY($1::text[]) AND type NOT IN ('anonymous_id', 'message') "
        "ORDER BY 6",
        sorted(contacts),
    ):
        members.setdefault(workspace, []).append(
            ComponentMember((kind, value), contact, home, number)
        )
    return members


async def list_links_of(
    connection: Connection, workspace: WorkspaceId, identifiers: Iterable[Identifier], limit: int
) -> list[Link]:
    """Return the active links of these identifiers, at most `limit` + 1 of each.

    The caller drops the links of an identifier with more than `limit`.
    """
    ends = sorted(identifiers)
    rows = await connection.fetch(
        "SELECT w.type, w.value, l.other_type, l.other_value "
        "FROM unnest($2::text[], $3::text[]) AS w (type, value), "
        f"LATERAL (SELECT other_type, other_value FROM ({_BOTH_DIRECTIONS}) x "
        "WHERE (x.workspace, x.type, x.value) = ($1, w.type, w.value) LIMIT $4) l",
        workspace,
        [kind for kind, _ in ends],
        [value for _, value in ends],
        limit + 1,
    )
    return sorted({make_link((r[0], r[1]), (r[2], r[3])) for r in rows})


class ClaimedDevice(msgspec.Struct, frozen=True):
    """A device of a contact, the identifier that claims it, and the start of the claim."""

    anonymous_id: str
    owner: str
    since: int


class LinkView(msgspec.Struct, frozen=True):
    """A link between two identifiers, with its origin; `counts` is false for a revoked link."""

    one: str
    other: str
    counts: bool
    why: str


async def list_devices(connection: Connection, contact: ContactId) -> list[ClaimedDevice]:
    """Return the devices that the contact's identifiers claim."""
    rows = await connection.fetch(
        "SELECT d.anonymous_id, i.type || ':' || i.value, d.occurred_at "
        "FROM scoring.identifiers i JOIN scoring.device_claims d "
        "ON (d.workspace, d.owner_type, d.owner) = (i.workspace, i.type, i.value) "
        "WHERE i.contact_id = $1 ORDER BY 1, 3",
        contact,
    )
    return [ClaimedDevice(*r) for r in rows]


async def list_links(connection: Connection, contact: ContactId) -> list[LinkView]:
    """Return every link of the contact's identifiers, revoked ones included."""
    rows = await connection.fetch(
        "SELECT DISTINCT l.type || ':' || l.value, l.other_type || ':' || l.other_value, "
        f"{_ACTIVE}, l.why "
        "FROM scoring.identifiers i JOIN scoring.links l ON l.workspace = i.workspace "
        "AND (i.type, i.value) IN ((l.type, l.value), (l.other_type, l.other_value)) "
        "WHERE i.contact_id = $1 ORDER BY 1, 2",
        contact,
    )
    return [LinkView(*r) for r in rows]


async def insert_deferred(connection: Connection, links: Sequence[WorkspaceLink]) -> None:
    """Store links for the job that resolves their contacts outside the stream's transaction."""
    statement = (
        "INSERT INTO scoring.regroups (workspace, type, value, other_type, other_value) "
        "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
        "ON CONFLICT DO NOTHING"
    )
    await connection.execute(with_notification(statement, DEFERRED_CHANNEL), *_columns(links))


async def get_deferred(connection: Connection) -> WorkspaceLink | None:
    """Return any deferred link, or None; locks nothing."""
    row = await connection.fetchrow(
        "SELECT workspace, type, value, other_type, other_value FROM scoring.regroups LIMIT 1"
    )
    return None if row is None else (row[0], ((row[1], row[2]), (row[3], row[4])))


async def delete_deferred(connection: Connection, link: WorkspaceLink) -> None:
    """Delete a deferred link."""
    await connection.execute(
        "DELETE FROM scoring.regroups "
        "WHERE (workspace, type, value, other_type, other_value) = ($1, $2, $3, $4, $5)",
        link[0], *link[1][0], *link[1][1],
    )  # fmt: skip
