"""What became of dead letters: the topics keep them, this says which were replayed or dropped, and by whom."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(
        "CREATE TABLE ingest.dead_letter_marks ("
        'topic text COLLATE "C" NOT NULL, partition int NOT NULL, kafka_offset bigint NOT NULL, '
        "mark text NOT NULL CHECK (mark IN ('replayed', 'dropped')), author text NOT NULL, note text NOT NULL DEFAULT '', "
        "at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (topic, partition, kafka_offset))"
    )
