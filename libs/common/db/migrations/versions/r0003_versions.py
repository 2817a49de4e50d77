"""Cycle versions beside each other: what is stored of a contact is stored per fold, `cycle@version`."""

from alembic import op

revision = "0003"
down_revision = "0002"

SCRIPT = """
UPDATE scoring.transitions t SET cycle = t.cycle || '@' || c.version FROM scoring.cycles c WHERE c.name = t.cycle;
TRUNCATE scoring.timers;
TRUNCATE scoring.fold_errors;
ALTER TABLE scoring.transitions RENAME COLUMN cycle TO fold;
ALTER TABLE scoring.contact_states RENAME COLUMN cycle TO fold;
ALTER TABLE scoring.contact_states DROP COLUMN version;
ALTER TABLE scoring.checkpoints RENAME COLUMN cycle TO fold;
ALTER TABLE scoring.timers RENAME COLUMN cycle TO fold;
ALTER TABLE scoring.fold_errors RENAME COLUMN cycle TO fold;
ALTER TABLE scoring.fold_errors DROP COLUMN version;
DROP TABLE scoring.cycles;
CREATE TABLE scoring.cycle_versions (
    cycle text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    status text NOT NULL CHECK (status IN ('draft', 'shadow', 'live', 'retired')),
    spec text NOT NULL,
    fingerprint bytea NOT NULL,
    author text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    live_at timestamptz,
    retired_at timestamptz,
    filled_to text COLLATE "C",
    told_to text COLLATE "C",
    swept_to text COLLATE "C",
    told_at timestamptz NOT NULL DEFAULT '-infinity',
    per_second int NOT NULL DEFAULT 500,
    PRIMARY KEY (cycle, version)
);
CREATE UNIQUE INDEX cycle_versions_live ON scoring.cycle_versions (cycle) WHERE status = 'live';
CREATE UNIQUE INDEX cycle_versions_shadow ON scoring.cycle_versions (cycle) WHERE status = 'shadow';
"""


def upgrade() -> None:
    for statement in SCRIPT.split(";\n"):
        if statement.strip():
            op.execute(statement)
