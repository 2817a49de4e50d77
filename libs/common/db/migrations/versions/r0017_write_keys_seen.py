"""What the orchestrator may know of write keys: whose they are, and what they prove. Their hashes alone are stored."""

from alembic import op

revision = "0017"
down_revision = "0016"

SCRIPT = """
CREATE VIEW ingest.live_write_keys AS
    SELECT k.key_hash, s.workspace, s.source, s.trust, s.user_hash_secret, s.allowed_origins
    FROM ingest.write_keys k JOIN ingest.sources s USING (workspace, source)
    WHERE k.ends_at IS NULL OR k.ends_at > now()
"""


def upgrade() -> None:
    op.execute(SCRIPT)
