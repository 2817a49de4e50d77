"""A source can demand that a user id comes with its HMAC, so that nobody can log in as somebody else from a browser."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("ALTER TABLE ingest.sources ADD COLUMN user_hash_secret text")
