"""First sources with given write keys: `python -m services.ingest.first_sources`.

It runs before any service does. Reads a JSON array from standard input,
`[{"source": "default", "write_key": "…", "trust": "public"}]`: keys do not belong in arguments,
which every process of the machine can read. The database is that of `DATABASE_URL`. A known error
is one line on standard error and exit code 1.
"""

import asyncio
import sys
from typing import Literal

import msgspec

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.connection import Session
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import PerigeeError
from libs.common.settings import load_settings
from services.ingest.domain.source import Source, SourceKey
from services.ingest.repository import sources
from services.ingest.settings import PreparationSettings


class FirstSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source of the default workspace and its key."""

    source: str
    write_key: str
    trust: Literal["public", "server"] = "public"


async def put_sources(database_url: str, first_sources: list[FirstSource]) -> None:
    """Create each source that is missing; its key replaces all others of the source.

    Raises Conflict for a key that was revoked or belongs to another source, Unavailable.
    """
    session = Session(database_url, "ingest-prepare")
    try:
        for first in first_sources:
            async with session.acquire() as connection, unit_of_work(connection):
                source_key = SourceKey(DEFAULT_WORKSPACE, first.source)
                if await sources.get_source_for_update(connection, source_key) is None:
                    await sources.upsert_source(connection, Source(*source_key, trust=first.trust))
                if await sources.insert_key(connection, source_key, first.write_key):
                    await sources.update_key_ends(connection, source_key, 0, keep=first.write_key)
    finally:
        await session.close()


def main() -> None:
    """Entry of the process."""
    try:
        first_sources = msgspec.json.decode(sys.stdin.buffer.read(), type=list[FirstSource])
        settings: PreparationSettings = load_settings(PreparationSettings)
        asyncio.run(put_sources(settings.database_url, first_sources))
    except (PerigeeError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
