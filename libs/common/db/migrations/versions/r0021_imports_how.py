"""A file that is imported in another way than before begins anew: its rows' ids are the same, so what is known is not added."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.execute("ALTER TABLE ingest.imports ADD COLUMN how bytea NOT NULL DEFAULT ''")
