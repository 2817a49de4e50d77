"""Plays as data with versions, enrollments that wait, branch and end, a ledger for more than one channel."""

from alembic import op

revision = "0013"
down_revision = "0012"

SCRIPT = """
CREATE VIEW scoring.live_cycles AS
    SELECT cycle, version, spec FROM scoring.cycle_versions WHERE status = 'live';
CREATE VIEW scoring.contact_standings AS
    SELECT p.contact_id, p.cycle, p.stage, p.dormant, p.published, s.state
    FROM scoring.publications p
    JOIN scoring.cycle_versions v ON v.cycle = p.cycle AND v.status = 'live'
    LEFT JOIN scoring.contact_states s ON s.contact_id = p.contact_id AND s.fold = v.cycle || '@' || v.version;
CREATE VIEW scoring.contact_emails AS
    SELECT contact_id, workspace, profile::json->'email'->>0 AS email
    FROM scoring.contacts WHERE profile IS NOT NULL AND merged_into IS NULL;
CREATE TABLE orchestrator.plays (
    workspace text COLLATE "C" NOT NULL,
    play text COLLATE "C" NOT NULL,
    number int NOT NULL,
    status text NOT NULL CHECK (status IN ('live', 'paused')),
    PRIMARY KEY (workspace, play)
);
CREATE TABLE orchestrator.play_versions (
    workspace text COLLATE "C" NOT NULL,
    play text COLLATE "C" NOT NULL,
    number int NOT NULL,
    text text NOT NULL,
    author text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, play, number)
);
CREATE TABLE orchestrator.definitions (
    workspace text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('content', 'segment', 'destination')),
    name text COLLATE "C" NOT NULL,
    text text NOT NULL,
    author text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, kind, name)
);
CREATE TABLE orchestrator.changes (
    workspace text COLLATE "C" PRIMARY KEY,
    count bigint NOT NULL
);
CREATE TABLE orchestrator.switches (
    workspace text COLLATE "C" NOT NULL,
    channel text NOT NULL,
    author text NOT NULL,
    stopped_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, channel)
);
CREATE TABLE orchestrator.people (
    contact_id text COLLATE "C" PRIMARY KEY
);
CREATE TABLE orchestrator.signals_seen (
    contact_id text COLLATE "C" NOT NULL,
    signal text COLLATE "C" NOT NULL,
    occurred_at bigint NOT NULL,
    signal_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (contact_id, signal, occurred_at, signal_id)
);
CREATE TABLE orchestrator.exposures (
    contact_id text COLLATE "C" NOT NULL,
    content text COLLATE "C" NOT NULL,
    times int NOT NULL,
    last_at bigint NOT NULL,
    PRIMARY KEY (contact_id, content)
) WITH (fillfactor = 70);
ALTER TABLE orchestrator.enrollments DROP COLUMN play_version;
ALTER TABLE orchestrator.enrollments
    ADD COLUMN number int NOT NULL DEFAULT 0,
    ADD COLUMN status text NOT NULL DEFAULT 'completed',
    ADD COLUMN reason text NOT NULL DEFAULT 'all steps done',
    ADD COLUMN place int NOT NULL DEFAULT 0,
    ADD COLUMN since bigint NOT NULL DEFAULT 0,
    ADD COLUMN due_at bigint,
    ADD COLUMN goal_at bigint,
    ADD COLUMN watched_until bigint NOT NULL DEFAULT 0,
    ADD COLUMN event text NOT NULL DEFAULT '{}';
CREATE INDEX enrollments_due ON orchestrator.enrollments (due_at) WHERE status = 'active';
CREATE INDEX enrollments_of_play ON orchestrator.enrollments (workspace, play);
ALTER TABLE orchestrator.actions
    ADD COLUMN destination text NOT NULL DEFAULT '',
    ADD COLUMN priority int NOT NULL DEFAULT 0,
    ADD COLUMN content text NOT NULL DEFAULT '';
DROP INDEX orchestrator.actions_due;
CREATE INDEX actions_due ON orchestrator.actions (channel, destination, due_at)
    WHERE status IN ('pending', 'held', 'sending');
CREATE INDEX actions_of_enrollment ON orchestrator.actions (enrollment_id);
"""


def upgrade() -> None:
    for statement in SCRIPT.split(";\n"):
        if statement.strip():
            op.execute(statement)
