"""Accounts: companies as folds of their own over their members' touchpoints.

`memberships` says who may count for an account, and may say too much; `touchpoints.account_id` marks the touchpoints that
join or leave one. The queue is appended to and never updated, so that members of one account block nobody.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

SCRIPT = """
ALTER TABLE scoring.touchpoints ADD COLUMN account_id text COLLATE "C";
CREATE INDEX touchpoints_of_account ON scoring.touchpoints (account_id, occurred_at) WHERE account_id IS NOT NULL;
CREATE TABLE scoring.accounts (
    account_id text COLLATE "C" PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE scoring.memberships (
    account_id text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (account_id, contact_id)
);
CREATE INDEX memberships_of_contact ON scoring.memberships (contact_id);
CREATE TABLE scoring.account_refolds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    from_at bigint NOT NULL,
    from_source text COLLATE "C" NOT NULL,
    from_message_id text COLLATE "C" NOT NULL
);
CREATE INDEX account_refolds_of_account ON scoring.account_refolds (account_id);
"""


def upgrade() -> None:
    for statement in SCRIPT.split(";\n"):
        if statement.strip():
            op.execute(statement)
