"""Truth: known identifiers of every kind and their links, corrections, checkpoints, re-folds from a key.

`touchpoints.subject` is the strongest known identifier that a touchpoint carries itself, null where it has only a device.
States have another shape from here on, so everybody is folded again.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

SCRIPT = """
DROP VIEW scoring.contact_identifiers;
ALTER TABLE scoring.outbox ADD COLUMN skipped boolean NOT NULL DEFAULT false;
ALTER TABLE orchestrator.outbox ADD COLUMN skipped boolean NOT NULL DEFAULT false;
ALTER TABLE scoring.touchpoints RENAME COLUMN user_id TO subject;
ALTER TABLE scoring.touchpoints ADD COLUMN subject_type text COLLATE "C";
ALTER TABLE scoring.touchpoints ADD COLUMN previous_id text COLLATE "C";
UPDATE scoring.touchpoints SET subject_type = 'user_id' WHERE subject IS NOT NULL;
CREATE INDEX touchpoints_of_alias ON scoring.touchpoints (previous_id) WHERE previous_id IS NOT NULL;
ALTER TABLE scoring.device_claims RENAME COLUMN user_id TO owner;
ALTER TABLE scoring.device_claims ADD COLUMN owner_type text COLLATE "C" NOT NULL DEFAULT 'user_id';
DROP INDEX scoring.device_claims_by_user;
CREATE INDEX device_claims_by_owner ON scoring.device_claims (workspace, owner_type, owner);
ALTER TABLE scoring.identifiers ADD COLUMN home text COLLATE "C";
UPDATE scoring.identifiers SET home = contact_id;
ALTER TABLE scoring.identifiers ALTER COLUMN home SET NOT NULL;
ALTER TABLE scoring.identifiers ADD COLUMN created_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE scoring.identifiers ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;
CREATE INDEX identifiers_by_value ON scoring.identifiers (value);
CREATE TABLE scoring.links (
    workspace text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    other_type text COLLATE "C" NOT NULL,
    other_value text COLLATE "C" NOT NULL,
    seen boolean NOT NULL,
    verdict text CHECK (verdict IN ('link', 'unlink')),
    why text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, type, value, other_type, other_value)
);
CREATE INDEX links_by_other ON scoring.links (workspace, other_type, other_value);
CREATE TABLE scoring.corrections (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('bot', 'human', 'exclude', 'include', 'stage', 'link', 'unlink')),
    occurred_at bigint,
    source text COLLATE "C",
    message_id text COLLATE "C",
    type text COLLATE "C",
    value text COLLATE "C",
    other_type text COLLATE "C",
    other_value text COLLATE "C",
    detail text COLLATE "C",
    author text NOT NULL,
    note text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX corrections_of_touchpoint ON scoring.corrections (workspace, occurred_at, source, message_id)
    WHERE kind IN ('bot', 'human', 'exclude', 'include');
CREATE INDEX corrections_of_identifier ON scoring.corrections (workspace, type, value) WHERE type IS NOT NULL;
CREATE TABLE scoring.checkpoints (
    contact_id text COLLATE "C" NOT NULL,
    cycle text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    occurred_at bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (contact_id, cycle, count)
);
ALTER TABLE scoring.refolds ADD COLUMN from_at bigint NOT NULL DEFAULT -1;
ALTER TABLE scoring.refolds ADD COLUMN from_source text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE scoring.refolds ADD COLUMN from_message_id text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE scoring.refolds ADD COLUMN relearn boolean NOT NULL DEFAULT false;
CREATE TABLE scoring.regroups (
    workspace text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    other_type text COLLATE "C" NOT NULL,
    other_value text COLLATE "C" NOT NULL,
    PRIMARY KEY (workspace, type, value, other_type, other_value)
);
TRUNCATE scoring.contact_states;
INSERT INTO scoring.refolds (contact_id, reason)
    SELECT contact_id, 'cycle_published' FROM scoring.contacts WHERE merged_into IS NULL ON CONFLICT DO NOTHING;
CREATE VIEW scoring.contact_identifiers AS
    SELECT workspace, type, value, contact_id FROM scoring.identifiers
    UNION
    SELECT c.workspace, 'anonymous_id', c.anonymous_id, i.contact_id
    FROM scoring.device_claims c
    JOIN scoring.identifiers i ON (i.workspace, i.type, i.value) = (c.workspace, c.owner_type, c.owner);
"""


def upgrade() -> None:
    for statement in SCRIPT.split(";\n"):
        if statement.strip():
            op.execute(statement)
