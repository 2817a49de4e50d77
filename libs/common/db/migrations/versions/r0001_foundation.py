"""The foundation: one PostgreSQL schema per service, so that one service writes a table and others read its views.

Instants are bigint, microseconds since 1970 UTC. Text keys compare by code point (COLLATE "C"), whatever the database.
"""

from alembic import op

revision = "0001"
down_revision = None

INGEST = """
CREATE SCHEMA ingest;
CREATE TABLE ingest.sources (
    workspace text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    key_hash bytea NOT NULL UNIQUE,
    trust text NOT NULL DEFAULT 'public' CHECK (trust IN ('public', 'server')),
    mode text NOT NULL DEFAULT 'live' CHECK (mode IN ('live', 'historical', 'test')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, source)
);
"""

CONSUMER = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.offsets (
    topic text COLLATE "C" NOT NULL,
    partition int NOT NULL,
    consumer_group text COLLATE "C" NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition, consumer_group)
);
CREATE TABLE {schema}.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard int NOT NULL,
    topic text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    value bytea,
    headers bytea NOT NULL,
    refused text
);
CREATE INDEX outbox_by_shard ON {schema}.outbox (shard, id);
CREATE INDEX outbox_refused ON {schema}.outbox (shard, topic, key) WHERE refused IS NOT NULL;
"""

SCORING = """
CREATE TABLE scoring.frontier (
    topic text COLLATE "C" NOT NULL,
    partition int NOT NULL,
    reached_at bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
CREATE TABLE scoring.cycles (
    name text COLLATE "C" PRIMARY KEY,
    version text NOT NULL,
    fingerprint bytea NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE scoring.contacts (
    contact_id text COLLATE "C" PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    identity_version bigint NOT NULL DEFAULT 0,
    merged_into text COLLATE "C",
    profile text COLLATE "C"
) WITH (fillfactor = 50);
CREATE INDEX contacts_by_email ON scoring.contacts ((profile::json->'email'->>0)) WHERE profile IS NOT NULL;
CREATE INDEX contacts_by_survivor ON scoring.contacts (merged_into) WHERE merged_into IS NOT NULL;
CREATE TABLE scoring.identifiers (
    workspace text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (workspace, type, value)
);
CREATE INDEX identifiers_by_contact ON scoring.identifiers (contact_id);
CREATE TABLE scoring.device_claims (
    workspace text COLLATE "C" NOT NULL,
    anonymous_id text COLLATE "C" NOT NULL,
    occurred_at bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (workspace, anonymous_id, occurred_at, source, message_id)
);
CREATE INDEX device_claims_by_user ON scoring.device_claims (workspace, user_id);
CREATE TABLE scoring.touchpoints (
    workspace text COLLATE "C" NOT NULL,
    occurred_at bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C",
    anonymous_id text COLLATE "C",
    received_at bigint NOT NULL,
    data text COLLATE "C" NOT NULL,
    UNIQUE (workspace, occurred_at, source, message_id)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX touchpoints_of_contact ON scoring.touchpoints (contact_id, occurred_at, source, message_id);
CREATE INDEX touchpoints_of_device ON scoring.touchpoints (anonymous_id, occurred_at) WHERE anonymous_id IS NOT NULL;
CREATE TABLE scoring.touchpoints_default PARTITION OF scoring.touchpoints DEFAULT;
CREATE TABLE scoring.seen (
    hash bytea PRIMARY KEY,
    day int NOT NULL
);
CREATE INDEX seen_by_day ON scoring.seen USING brin (day);
CREATE TABLE scoring.contact_states (
    contact_id text COLLATE "C" NOT NULL,
    cycle text COLLATE "C" NOT NULL,
    version text NOT NULL,
    state bytea NOT NULL,
    stored_seq int NOT NULL,
    PRIMARY KEY (contact_id, cycle)
) WITH (fillfactor = 50);
CREATE TABLE scoring.transitions (
    contact_id text COLLATE "C" NOT NULL,
    cycle text COLLATE "C" NOT NULL,
    seq int NOT NULL,
    occurred_at bigint NOT NULL,
    move bytea NOT NULL,
    received_at bigint,
    known_from timestamptz NOT NULL DEFAULT now(),
    known_to timestamptz
);
CREATE UNIQUE INDEX transitions_open ON scoring.transitions (contact_id, cycle, seq) WHERE known_to IS NULL;
CREATE TABLE scoring.publications (
    contact_id text COLLATE "C" NOT NULL,
    cycle text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    published bytea NOT NULL,
    stage text COLLATE "C" NOT NULL,
    dormant boolean NOT NULL,
    PRIMARY KEY (contact_id, cycle)
) WITH (fillfactor = 50);
CREATE TABLE scoring.timers (
    contact_id text COLLATE "C" NOT NULL,
    cycle text COLLATE "C" NOT NULL,
    due_at bigint NOT NULL,
    PRIMARY KEY (contact_id, cycle)
);
CREATE INDEX timers_by_due ON scoring.timers (due_at);
CREATE TABLE scoring.refolds (
    contact_id text COLLATE "C" PRIMARY KEY,
    reason text NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT now(),
    touched_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE scoring.fold_errors (
    contact_id text COLLATE "C" NOT NULL,
    cycle text COLLATE "C" NOT NULL,
    version text NOT NULL,
    error text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (contact_id, cycle)
);
CREATE VIEW scoring.contact_profiles AS
    SELECT contact_id, workspace, merged_into,
        (SELECT json_object_agg(key, value->0) FROM json_each(profile::json)) AS traits
    FROM scoring.contacts;
CREATE VIEW scoring.contact_identifiers AS
    SELECT workspace, type, value, contact_id FROM scoring.identifiers
    UNION
    SELECT c.workspace, 'anonymous_id', c.anonymous_id, i.contact_id
    FROM scoring.device_claims c
    JOIN scoring.identifiers i ON (i.workspace, i.type, i.value) = (c.workspace, 'user_id', c.user_id);
"""

ORCHESTRATOR = """
CREATE TABLE orchestrator.consents (
    workspace text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    purpose text NOT NULL,
    granted boolean NOT NULL,
    occurred_at bigint NOT NULL,
    signal_id text NOT NULL,
    PRIMARY KEY (contact_id, purpose)
);
CREATE TABLE orchestrator.suppressions (
    contact_id text COLLATE "C" NOT NULL,
    channel text NOT NULL,
    reason text NOT NULL,
    suppressed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (contact_id, channel)
);
CREATE TABLE orchestrator.enrollments (
    enrollment_id text COLLATE "C" PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    play text NOT NULL,
    play_version text NOT NULL,
    cause text NOT NULL,
    entered_at bigint NOT NULL
);
CREATE INDEX enrollments_of_contact ON orchestrator.enrollments (contact_id, play);
CREATE TABLE orchestrator.actions (
    action_id text COLLATE "C" PRIMARY KEY,
    enrollment_id text COLLATE "C" NOT NULL REFERENCES orchestrator.enrollments,
    workspace text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    play text NOT NULL,
    step text NOT NULL,
    channel text NOT NULL,
    status text NOT NULL,
    reason text NOT NULL,
    cause text NOT NULL,
    due_at bigint NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    decided_at bigint NOT NULL
);
CREATE INDEX actions_due ON orchestrator.actions (due_at) WHERE status IN ('pending', 'held', 'sending');
CREATE INDEX actions_of_contact ON orchestrator.actions (contact_id);
CREATE TABLE orchestrator.deliveries (
    action_id text COLLATE "C" NOT NULL REFERENCES orchestrator.actions,
    attempt int NOT NULL,
    outcome text NOT NULL,
    detail text NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (action_id, attempt)
);
CREATE TABLE orchestrator.caps (
    contact_id text COLLATE "C" NOT NULL,
    channel text NOT NULL,
    day int NOT NULL,
    used int NOT NULL,
    PRIMARY KEY (contact_id, channel, day)
);
CREATE TABLE orchestrator.echoes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body bytea NOT NULL
);
"""


def upgrade() -> None:
    for script in (
        INGEST,
        CONSUMER.format(schema="scoring"),
        SCORING,
        CONSUMER.format(schema="orchestrator"),
        ORCHESTRATOR,
    ):
        for statement in script.split(";\n"):
            if statement.strip():
                op.execute(statement)
