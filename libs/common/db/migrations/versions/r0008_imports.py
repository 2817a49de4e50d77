"""How far the import of a file has come, by the file's content: it goes on where it stopped, and is not done twice."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute(
        'CREATE TABLE ingest.imports (workspace text COLLATE "C" NOT NULL, source text COLLATE "C" NOT NULL, '
        "content bytea NOT NULL, name text NOT NULL, next_line bigint NOT NULL DEFAULT 0, accepted bigint NOT NULL DEFAULT 0, "
        "rejected bigint NOT NULL DEFAULT 0, begun_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz, "
        "PRIMARY KEY (workspace, source, content))"
    )
