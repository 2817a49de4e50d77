"""Segments that are watched: who is in which, since when; and when somebody was last in touch with a contact."""

from alembic import op

revision = "0018"
down_revision = "0017"

SCRIPT = """
DROP TABLE orchestrator.segment_members;
CREATE TABLE orchestrator.segment_members (
    workspace text COLLATE "C" NOT NULL,
    segment text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    since bigint NOT NULL,
    PRIMARY KEY (workspace, segment, contact_id)
);
CREATE INDEX segment_members_by_since ON orchestrator.segment_members (workspace, segment, since);
CREATE INDEX segment_members_of_contact ON orchestrator.segment_members (contact_id);
CREATE VIEW scoring.contact_touches AS
    SELECT c.contact_id, (SELECT t.occurred_at FROM scoring.touchpoints t WHERE t.contact_id = c.contact_id
        ORDER BY t.occurred_at DESC LIMIT 1) AS last_at
    FROM scoring.contacts c
"""


def upgrade() -> None:
    for statement in SCRIPT.split(";\n"):
        if statement.strip():
            op.execute(statement)
