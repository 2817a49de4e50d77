"""Addresses that get no more mails, whoever has them; what advertisers were told of whom; what others may see
of compelling events and corrections."""

from alembic import op

revision = "0020"
down_revision = "0019"

SCRIPT = """
CREATE TABLE orchestrator.suppressed_addresses (
    workspace text COLLATE "C" NOT NULL,
    email_sha256 text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    suppressed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (email_sha256, workspace)
);
CREATE TABLE orchestrator.audience_told (
    enrollment_id text COLLATE "C" NOT NULL,
    destination text COLLATE "C" NOT NULL,
    audience text COLLATE "C" NOT NULL,
    told text NOT NULL,
    PRIMARY KEY (enrollment_id, destination, audience)
);
CREATE VIEW scoring.open_events AS
    SELECT workspace, subject, event::json->>'kind' AS kind FROM scoring.compelling_events WHERE standing = 'open';
CREATE VIEW scoring.touchpoint_corrections AS
    SELECT id, workspace, occurred_at, source, message_id, kind FROM scoring.corrections
    WHERE kind IN ('bot', 'human', 'exclude', 'include')
"""


def upgrade() -> None:
    for statement in SCRIPT.split(";\n"):
        if statement.strip():
            op.execute(statement)
