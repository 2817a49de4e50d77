"""A source can have several write keys, so that one can be replaced without an hour in which its site is mute."""

from alembic import op

revision = "0006"
down_revision = "0005"

WRITE_KEYS = """
CREATE TABLE ingest.write_keys (
    key_hash bytea PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    hint text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    ends_at timestamptz,
    FOREIGN KEY (workspace, source) REFERENCES ingest.sources (workspace, source) ON DELETE CASCADE
);
INSERT INTO ingest.write_keys (key_hash, workspace, source, created_at)
SELECT key_hash, workspace, source, created_at FROM ingest.sources;
ALTER TABLE ingest.sources
    DROP COLUMN key_hash,
    ADD COLUMN allowed_origins text[] NOT NULL DEFAULT '{}',
    ADD COLUMN per_second int CHECK (per_second > 0),
    ADD COLUMN defaults text NOT NULL DEFAULT '{}';
"""


def upgrade() -> None:
    for statement in WRITE_KEYS.split(";"):
        if statement.strip():
            op.execute(statement)
