"""One look-up of contacts for every service: a function that resolves a parsed reference to the canonical contact id."""

from alembic import op

revision = "0022"
down_revision = "0021"

FUNCTION = """
CREATE FUNCTION scoring.find_contact(
    in_workspace text, reference text, identifier_types text[], identifier_values text[], addresses text[]
) RETURNS text LANGUAGE sql STABLE AS $$
    WITH candidates (contact_id, precedence, reading, type, at, source, message_id) AS (
        SELECT contact_id, 1, 0::bigint, '', 0::bigint, '', ''
        FROM scoring.contacts WHERE contact_id = reference AND workspace = in_workspace
        UNION ALL
        SELECT i.contact_id, 2, r.number, i.type, 0, '', ''
        FROM unnest(identifier_types, identifier_values) WITH ORDINALITY AS r (type, value, number)
        JOIN scoring.identifiers i
        ON i.workspace = in_workspace AND i.value = r.value AND i.type = coalesce(r.type, i.type)
        UNION ALL
        SELECT i.contact_id, 3, r.number, '', d.occurred_at, d.source, d.message_id
        FROM unnest(identifier_types, identifier_values) WITH ORDINALITY AS r (type, value, number)
        JOIN scoring.device_claims d
        ON d.workspace = in_workspace AND d.anonymous_id = r.value AND coalesce(r.type, 'anonymous_id') = 'anonymous_id'
        JOIN scoring.identifiers i ON (i.workspace, i.type, i.value) = (d.workspace, d.owner_type, d.owner)
        UNION ALL
        SELECT contact_id, 4, 0, '', 0, '', ''
        FROM scoring.contact_emails WHERE workspace = in_workspace AND email = ANY(addresses)
    )
    SELECT coalesce(c.merged_into, c.contact_id) FROM candidates f JOIN scoring.contacts c USING (contact_id)
    ORDER BY f.precedence, f.reading, f.type COLLATE "C" DESC, f.at, f.source COLLATE "C", f.message_id COLLATE "C",
        c.contact_id
    LIMIT 1
$$
"""


def upgrade() -> None:
    op.execute(FUNCTION)
