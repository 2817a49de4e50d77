"""Schema migration, and creation of monthly partitions ahead of time."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import create_async_engine

from libs.common.db.connection import Connection
from libs.common.instants import from_datetime, to_datetime

_HERE = Path(__file__).parent / "migrations"
_MONTHS_BACK, _MONTHS_AHEAD = 18, 12


async def upgrade(database_url: str, revision: str = "head") -> None:
    """Run all missing revisions up to `revision` in a single transaction."""
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade, revision)
    finally:
        await engine.dispose()


def latest_revision() -> str:
    """Return the newest revision in the code."""
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    return str(ScriptDirectory.from_config(config).get_current_head())


def _upgrade(connection: SyncConnection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    attributes: dict[str, Any] = config.attributes
    attributes["connection"] = connection
    command.upgrade(config, revision)


async def ensure_partitions(connection: Connection, now: int) -> None:
    """Create the monthly partitions of `scoring.touchpoints` around `now`.

    Older and newer rows go to the default partition. A month with rows in the default partition
    gets no partition.
    """
    today = to_datetime(now)
    this_month = today.year * 12 + today.month - 1
    for month in range(this_month - _MONTHS_BACK, this_month + _MONTHS_AHEAD):
        start, end = _instant(month), _instant(month + 1)
        name = f"touchpoints_{month // 12:04d}_{month % 12 + 1:02d}"
        exists = await connection.fetchval("SELECT to_regclass($1)", f"scoring.{name}")
        if exists is None and not await _in_default(connection, start, end):
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS scoring.{name} PARTITION OF scoring.touchpoints "
                f"FOR VALUES FROM ({start}) TO ({end})"
            )


async def _in_default(connection: Connection, start: int, end: int) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM scoring.touchpoints_default "
            "WHERE occurred_at >= $1 AND occurred_at < $2)",
            start,
            end,
        )
    )


def _instant(month: int) -> int:
    return from_datetime(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC))
