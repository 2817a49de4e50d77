"""What was published stays readable, and goes out by webhook to whoever subscribes."""

from alembic import op

revision = "0011"
down_revision = "0010"

SUBSCRIPTIONS = """
CREATE TABLE scoring.log (
    workspace text COLLATE "C" NOT NULL,
    shard int NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    topic text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    headers bytea NOT NULL,
    value bytea NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, shard, position)
);
CREATE INDEX log_by_time ON scoring.log USING brin (published_at);
CREATE INDEX log_by_key ON scoring.log (key);
CREATE VIEW scoring.published_messages AS
    SELECT workspace, shard, position, topic, key, headers, value, published_at FROM scoring.log;
CREATE INDEX actions_in_doubt ON orchestrator.actions (action_id) WHERE status = 'in_doubt';
CREATE TABLE orchestrator.subscriptions (
    number int GENERATED ALWAYS AS IDENTITY UNIQUE,
    subscription_id text COLLATE "C" PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    url text NOT NULL,
    selection text NOT NULL,
    secrets text NOT NULL,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'disabled')),
    reason text NOT NULL DEFAULT '',
    place text NOT NULL,
    failing text[] NOT NULL DEFAULT '{}',
    unreached int NOT NULL DEFAULT 0,
    probes int NOT NULL DEFAULT 0,
    failing_since bigint,
    pause_until bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (workspace, name)
);
CREATE TABLE orchestrator.subscription_waiting (
    subscription_id text COLLATE "C" NOT NULL REFERENCES orchestrator.subscriptions ON DELETE CASCADE,
    shard int NOT NULL,
    position bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    first_failed_at bigint,
    due_at bigint NOT NULL DEFAULT 0,
    fault text NOT NULL DEFAULT '',
    given_up boolean NOT NULL DEFAULT false,
    PRIMARY KEY (subscription_id, shard, position)
);
CREATE INDEX subscription_waiting_by_key ON orchestrator.subscription_waiting (subscription_id, key, position)
    WHERE NOT given_up;
CREATE TABLE orchestrator.subscription_attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id text COLLATE "C" NOT NULL REFERENCES orchestrator.subscriptions ON DELETE CASCADE,
    message_id text COLLATE "C" NOT NULL,
    shard int NOT NULL,
    position bigint NOT NULL,
    kind text NOT NULL,
    key text COLLATE "C" NOT NULL,
    attempt int NOT NULL,
    at bigint NOT NULL,
    milliseconds int NOT NULL,
    status int,
    detail text NOT NULL
);
CREATE INDEX subscription_attempts_by_time ON orchestrator.subscription_attempts (subscription_id, id);
CREATE INDEX subscription_attempts_old ON orchestrator.subscription_attempts (at)
"""


def upgrade() -> None:
    for statement in SUBSCRIPTIONS.split(";"):
        if statement.strip():
            op.execute(statement)
