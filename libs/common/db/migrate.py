"""Schema migration."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import create_async_engine

_HERE = Path(__file__).parent / "migrations"


async def upgrade(database_url: str, revision: str = "head") -> None:
    """Run all missing revisions up to `revision`, each in a transaction of its own.

    A revision that builds indexes on stored touchpoints works outside a transaction, beside running
    services, and can be run again after an interruption.
    """
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    try:
        async with engine.connect() as connection:
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
