"""What happened to a market or to an account, and to no one person: kept beside the people's touchpoints."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute(
        'CREATE TABLE scoring.outside (workspace text COLLATE "C" NOT NULL, source text COLLATE "C" NOT NULL, '
        'message_id text COLLATE "C" NOT NULL, occurred_at bigint NOT NULL, account_id text COLLATE "C", data bytea NOT NULL, '
        "PRIMARY KEY (workspace, source, message_id))"
    )
    op.execute("CREATE INDEX ON scoring.outside (workspace, occurred_at)")
