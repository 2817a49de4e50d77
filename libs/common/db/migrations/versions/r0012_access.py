"""Workspaces, and the keys that open the doors of each."""

from alembic import op

revision = "0012"
down_revision = "0011"

ACCESS = """
CREATE SCHEMA access;
CREATE TABLE access.workspaces (
    workspace text COLLATE "C" PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO access.workspaces (workspace) VALUES ('default');
INSERT INTO access.workspaces (workspace) SELECT DISTINCT workspace FROM ingest.sources ON CONFLICT DO NOTHING;
CREATE TABLE access.keys (
    key_hash bytea PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL REFERENCES access.workspaces,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('service', 'admin')),
    scopes text[] NOT NULL,
    hint text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    ends_at timestamptz,
    last_used_at timestamptz
) WITH (fillfactor = 50);
ALTER TABLE ingest.write_keys ADD COLUMN last_used_at timestamptz;
CREATE INDEX keys_of_workspace ON access.keys (workspace, name)
"""


def upgrade() -> None:
    for statement in ACCESS.split(";"):
        if statement.strip():
            op.execute(statement)
