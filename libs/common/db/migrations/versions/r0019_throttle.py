"""A sweep may have to wait: so many contacts an hour, and no more."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.execute("ALTER TABLE orchestrator.sweeps ADD COLUMN next_at bigint NOT NULL DEFAULT 0")
