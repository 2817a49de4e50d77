"""Who recommends us to whom: the codes that were given out, and who came by them."""

from alembic import op

revision = "0016"
down_revision = "0015"

SCRIPT = """
CREATE TABLE orchestrator.referral_codes (
    workspace text COLLATE "C" NOT NULL,
    code text COLLATE "C" NOT NULL,
    contact_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (workspace, code)
);
CREATE INDEX referral_codes_by_code ON orchestrator.referral_codes (code);
CREATE TABLE orchestrator.referrals (
    contact_id text COLLATE "C" PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    code text COLLATE "C" NOT NULL,
    came_at bigint NOT NULL,
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'converted', 'refused')),
    reason text NOT NULL DEFAULT '',
    settled_at bigint
);
CREATE INDEX referrals_of_code ON orchestrator.referrals (workspace, code)
"""


def upgrade() -> None:
    for statement in SCRIPT.split(";\n"):
        if statement.strip():
            op.execute(statement)
