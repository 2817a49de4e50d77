"""Who fell back from which stage and has not returned."""

from alembic import op

revision = "0015"
down_revision = "0014"

SCRIPT = """
CREATE TABLE orchestrator.falls (
    contact_id text COLLATE "C" NOT NULL,
    cycle text COLLATE "C" NOT NULL,
    stage text COLLATE "C" NOT NULL,
    workspace text COLLATE "C" NOT NULL,
    fell_at bigint NOT NULL,
    PRIMARY KEY (contact_id, cycle, stage)
);
CREATE INDEX falls_by_stage ON orchestrator.falls (workspace, cycle, stage, fell_at)
"""


def upgrade() -> None:
    for statement in SCRIPT.split(";\n"):
        if statement.strip():
            op.execute(statement)
