"""Compelling events, and the sweeps by which plays reach everybody whom one concerns."""

from alembic import op

revision = "0014"
down_revision = "0013"

SCRIPT = """
CREATE TABLE scoring.compelling_events (
    workspace text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    standing text NOT NULL,
    next_at bigint,
    event text NOT NULL,
    PRIMARY KEY (workspace, event_id)
);
CREATE INDEX compelling_events_due ON scoring.compelling_events (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX compelling_events_of_subject ON scoring.compelling_events (subject) WHERE subject <> '';
CREATE VIEW scoring.account_members AS SELECT account_id, contact_id FROM scoring.memberships;
CREATE TABLE orchestrator.sweeps (
    sweep_id text COLLATE "C" PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    play text NOT NULL,
    account_id text COLLATE "C",
    event_id text COLLATE "C" NOT NULL,
    occasion text NOT NULL,
    reached text COLLATE "C" NOT NULL DEFAULT '',
    entered int NOT NULL DEFAULT 0,
    begun_at bigint NOT NULL,
    touched_at bigint NOT NULL
);
CREATE TABLE orchestrator.ticks (
    workspace text COLLATE "C" NOT NULL,
    play text COLLATE "C" NOT NULL,
    slot text COLLATE "C" NOT NULL,
    next_at bigint NOT NULL,
    count int NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace, play, slot)
);
CREATE TABLE orchestrator.segment_members (
    workspace text COLLATE "C" NOT NULL,
    play text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    since bigint NOT NULL,
    PRIMARY KEY (workspace, play, contact_id)
);
ALTER TABLE orchestrator.enrollments ADD COLUMN event_id text COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX enrollments_of_event ON orchestrator.enrollments (event_id) WHERE event_id <> '';
CREATE INDEX actions_by_status ON orchestrator.actions (workspace, status, decided_at)
    WHERE status IN ('failed', 'in_doubt');
ALTER TABLE orchestrator.actions ADD COLUMN counted_day int NOT NULL DEFAULT 0
"""


def upgrade() -> None:
    for statement in SCRIPT.split(";\n"):
        if statement.strip():
            op.execute(statement)
