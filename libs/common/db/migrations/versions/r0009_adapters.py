"""A source may speak another's language: which, how it signs, and what the adapter is to be told."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE ingest.sources ADD COLUMN adapter text, ADD COLUMN signing_secret text, "
        "ADD COLUMN adapter_settings text NOT NULL DEFAULT '{}'"
    )
