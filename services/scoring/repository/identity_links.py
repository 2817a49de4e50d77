"""Links between known identifiers, and the identifiers as members of a person."""

from collections.abc import Iterable, Sequence

import msgspec

from libs.common.db.connection import Connection
from services.scoring.domain.identifier_components import ComponentMember
from services.scoring.domain.identity import Identifier, Link, make_link

WorkspaceLink = tuple[str, Link]
"""(workspace, link)"""
_COUNTS = "(seen OR verdict = 'link') AND verdict IS DISTINCT FROM 'unlink'"
_ENDS = (
    f"SELECT workspace, type, value, other_type, other_value FROM scoring.links WHERE {_COUNTS} "
    f"UNION ALL SELECT workspace, other_type, other_value, type, value FROM scoring.links WHERE {_COUNTS}"
)


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
    """Return those of the links that no stored touchpoint showed yet."""
    wanted = sorted(links)
    if not wanted:
        return []
    rows = await connection.fetch(
        "SELECT w.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
        "AS w (workspace, type, value, other_type, other_value) LEFT JOIN scoring.links l "
        "USING (workspace, type, value, other_type, other_value) WHERE l.seen IS NOT TRUE ORDER BY 1, 2, 3, 4, 5",
        *_columns(wanted),
    )
    return [(r[0], ((r[1], r[2]), (r[3], r[4]))) for r in rows]


async def upsert_links(
    connection: Connection,
    links: Sequence[WorkspaceLink],
    why: str,
    *,
    seen: bool | None = None,
    verdict: str | None = None,
) -> None:
    """Note what is known of links now: whether a touchpoint shows them, or what a correction says of them."""
    await connection.execute(
        "INSERT INTO scoring.links (workspace, type, value, other_type, other_value, seen, verdict, why) "
        "SELECT w.*, coalesce($6, false), $7, $8 "
        "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS w "
        "ON CONFLICT (workspace, type, value, other_type, other_value) DO UPDATE SET "
        "seen = coalesce($6, links.seen), verdict = coalesce($7, links.verdict), why = excluded.why, noted_at = now()",
        *_columns(links),
        seen,
        verdict,
        why,
    )


async def list_affected_contacts(
    connection: Connection, links: Iterable[WorkspaceLink], limit: int
) -> set[str]:
    """Return the contacts that a change of these links may regroup: those of their ends and of the ends' neighbours.

    What redirects to them is with them, since all are locked in one order. An end with far more than `limit` links that
    count joins nobody, before or after, and its neighbours are left alone.
    """
    ends = sorted({(w, *end) for w, link in links for end in link})
    rows = await connection.fetch(
        "WITH ends AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS w (workspace, type, value)), "
        "near AS (SELECT e.workspace, l.other_type AS type, l.other_value AS value FROM ends e, LATERAL "
        f"(SELECT other_type, other_value FROM ({_ENDS}) x WHERE (x.workspace, x.type, x.value) "
        "= (e.workspace, e.type, e.value) LIMIT $4) l) "
        "SELECT DISTINCT i.contact_id FROM (SELECT * FROM ends UNION SELECT * FROM near) n "
        "JOIN scoring.identifiers i USING (workspace, type, value)",
        [w for w, _, _ in ends],
        [t for _, t, _ in ends],
        [v for _, _, v in ends],
        limit + 2,
    )
    found = {r[0] for r in rows}
    return found | await list_redirecting(connection, found)


async def get_members(
    connection: Connection, contacts: Iterable[str]
) -> dict[str, list[ComponentMember]]:
    """Return the known identifiers of the contacts, by workspace."""
    found: dict[str, list[ComponentMember]] = {}
    for workspace, kind, value, contact, home, number in await connection.fetch(
        "SELECT workspace, type, value, contact_id, home, row_number() OVER (ORDER BY created_at, "
        "CASE type WHEN 'user_id' THEN 0 WHEN 'email' THEN 1 ELSE 2 END, number) FROM scoring.identifiers "
        "WHERE contact_id = ANY($1::text[]) AND type NOT IN ('anonymous_id', 'message') ORDER BY 6",
        sorted(contacts),
    ):
        found.setdefault(workspace, []).append(
            ComponentMember((kind, value), contact, home, number)
        )
    return found


async def list_links_of(
    connection: Connection, workspace: str, names: Iterable[Identifier], limit: int
) -> list[Link]:
    """Return the links that count, but for the limit, of these identifiers: of each one more than the limit at most."""
    wanted = sorted(names)
    rows = await connection.fetch(
        "SELECT w.type, w.value, l.other_type, l.other_value FROM unnest($2::text[], $3::text[]) AS w (type, value), "
        f"LATERAL (SELECT other_type, other_value FROM ({_ENDS}) x WHERE (x.workspace, x.type, x.value) "
        "= ($1, w.type, w.value) LIMIT $4) l",
        workspace,
        [t for t, _ in wanted],
        [v for _, v in wanted],
        limit + 1,
    )
    return sorted({make_link((r[0], r[1]), (r[2], r[3])) for r in rows})


class ClaimedDevice(msgspec.Struct, frozen=True):
    """A device of a contact: by which identifier it is claimed, and from when on."""

    anonymous_id: str
    owner: str
    since: int


class LinkView(msgspec.Struct, frozen=True):
    """A link of a contact's identifiers: whether it counts, and why it is there."""

    one: str
    other: str
    counts: bool
    why: str


async def list_devices(connection: Connection, contact: str) -> list[ClaimedDevice]:
    """Return the devices that the contact claims."""
    rows = await connection.fetch(
        "SELECT d.anonymous_id, i.type || ':' || i.value, d.occurred_at FROM scoring.identifiers i "
        "JOIN scoring.device_claims d ON (d.workspace, d.owner_type, d.owner) = (i.workspace, i.type, i.value) "
        "WHERE i.contact_id = $1 ORDER BY 1, 3",
        contact,
    )
    return [ClaimedDevice(*r) for r in rows]


async def list_links(connection: Connection, contact: str) -> list[LinkView]:
    """Return every link of the contact's identifiers, revoked ones too."""
    rows = await connection.fetch(
        "SELECT DISTINCT l.type || ':' || l.value, l.other_type || ':' || l.other_value, "
        f"{_COUNTS}, l.why FROM scoring.identifiers i JOIN scoring.links l ON l.workspace = i.workspace "
        "AND (i.type, i.value) IN ((l.type, l.value), (l.other_type, l.other_value)) WHERE i.contact_id = $1 ORDER BY 1, 2",
        contact,
    )
    return [LinkView(*r) for r in rows]


async def insert_deferred(connection: Connection, links: Sequence[WorkspaceLink]) -> None:
    """Leave it to a job to regroup whom these links join."""
    await connection.execute(
        "INSERT INTO scoring.regroups (workspace, type, value, other_type, other_value) "
        "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) ON CONFLICT DO NOTHING",
        *_columns(links),
    )


async def lock_deferred(connection: Connection) -> WorkspaceLink | None:
    """Return a link whose people are still to be regrouped."""
    row = await connection.fetchrow(
        "SELECT workspace, type, value, other_type, other_value FROM scoring.regroups LIMIT 1"
    )
    return None if row is None else (row[0], ((row[1], row[2]), (row[3], row[4])))


async def delete_deferred(connection: Connection, link: WorkspaceLink) -> None:
    """Take a link off that list."""
    await connection.execute(
        "DELETE FROM scoring.regroups WHERE (workspace, type, value, other_type, other_value) = ($1, $2, $3, $4, $5)",
        link[0], *link[1][0], *link[1][1],
    )  # fmt: skip


async def update_contacts(
    connection: Connection, workspace: str, contacts: dict[Identifier, str]
) -> None:
    """Give identifiers to their contacts."""
    names = sorted(contacts)
    await connection.execute(
        "UPDATE scoring.identifiers i SET contact_id = w.contact_id "
        "FROM unnest($2::text[], $3::text[], $4::text[]) AS w (type, value, contact_id) "
        "WHERE i.workspace = $1 AND (i.type, i.value) = (w.type, w.value) AND i.contact_id <> w.contact_id",
        workspace,
        [t for t, _ in names],
        [v for _, v in names],
        [contacts[n] for n in names],
    )


async def update_homes(
    connection: Connection, workspace: str, homes: dict[Identifier, str]
) -> None:
    """Note the homes of identifiers that got a contact never seen before."""
    for (kind, value), home in sorted(homes.items()):
        await connection.execute(
            "UPDATE scoring.identifiers SET home = $4 WHERE (workspace, type, value) = ($1, $2, $3)",
            workspace,
            kind,
            value,
            home,
        )


async def list_redirecting(connection: Connection, contacts: Iterable[str]) -> set[str]:
    """Return the contacts that are merged into these."""
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.contacts WHERE merged_into = ANY($1::text[])",
        sorted(contacts),
    )
    return {r[0] for r in rows}


async def get_device_homes(
    connection: Connection, contacts: Iterable[str]
) -> dict[tuple[str, str], str]:
    """Return the devices, by (workspace, anonymous_id), whose own contacts these are."""
    rows = await connection.fetch(
        "SELECT workspace, value, contact_id FROM scoring.identifiers "
        "WHERE contact_id = ANY($1::text[]) AND type = 'anonymous_id'",
        sorted(contacts),
    )
    return {(r[0], r[1]): r[2] for r in rows}


async def list_existing(connection: Connection, contacts: Iterable[str]) -> set[str]:
    """Return those of the contact ids that were ever given."""
    rows = await connection.fetch(
        "SELECT contact_id FROM scoring.contacts WHERE contact_id = ANY($1::text[])",
        sorted(contacts),
    )
    return {r[0] for r in rows}


async def upsert_contacts(connection: Connection, workspace: str, contacts: Iterable[str]) -> None:
    """Make these contacts somebody: new rows, or merged ones that get their id back."""
    await connection.execute(
        "INSERT INTO scoring.contacts (contact_id, workspace) SELECT id, $1 FROM unnest($2::text[]) AS w (id) "
        "ON CONFLICT (contact_id) DO UPDATE SET merged_into = NULL WHERE contacts.merged_into IS NOT NULL",
        workspace,
        sorted(contacts),
    )
