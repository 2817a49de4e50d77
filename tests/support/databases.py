"""Migrated databases for tests: cloned from a template, and emptied instead of cloned anew.

Cloning copies 850 files (0.2 to 3 s, by what else the machine does); emptying the few tables that a
test has filled takes some 20 ms.
"""

import secrets
from typing import Any

import asyncpg

from tests.support.servers import execute, with_database
from tests.support.shared_servers import HostedServers

_USER_TABLES = """
SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""
_EMPTY = f"""
DO $$
DECLARE
  name text;
  filled boolean;
BEGIN
  SET LOCAL session_replication_role = replica;  -- no foreign key dictates an order
  FOR name IN {_USER_TABLES} LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', name) INTO filled;
    IF filled THEN EXECUTE format('DELETE FROM %s', name); END IF;
  END LOOP;
  FOR name IN SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences
              WHERE last_value IS NOT NULL LOOP
    EXECUTE format('ALTER SEQUENCE %s RESTART', name);
  END LOOP;
END $$
"""
_SHAPE = """
SELECT (SELECT count(*) FROM pg_class WHERE relkind <> 't'), (SELECT count(*) FROM pg_attribute),
       (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_proc),
       (SELECT count(*) FROM pg_db_role_setting)
"""
_MOST_BYTES = 24_000_000
"""A larger database is dropped: what it has left behind would slow the next test down."""


class DatabasePool:
    """Databases of one test process."""

    def __init__(self, hosted: HostedServers) -> None:
        self._hosted = hosted
        self._free: list[str] = []
        self._shape: asyncpg.Record | None = None
        self._rows: dict[str, list[asyncpg.Record]] = {}
        """The rows that a fresh database has, by table."""

    def url(self, name: str) -> str:
        """Return the DSN of a database of the pool."""
        return with_database(self._hosted.database, name)

    async def take(self) -> str:
        """Return the name of a database that is as after the migrations."""
        return self._free.pop() if self._free else await self.create()

    async def create(self) -> str:
        """Clone the template and return the name of the clone."""
        name = f"test_{secrets.token_hex(6)}"
        template = f'TEMPLATE "{self._hosted.template}" STRATEGY FILE_COPY'
        await execute(self._hosted.database, f'CREATE DATABASE "{name}" {template}')
        if self._shape is None:
            await execute(self.url(name), self._look)
        return name

    async def _look(self, connection: asyncpg.Connection) -> None:
        self._shape = await connection.fetchrow(_SHAPE)
        for (table,) in await connection.fetch(_USER_TABLES):
            rows = await connection.fetch(f"SELECT * FROM {table}")
            if rows:
                self._rows[table] = rows

    async def give_back(self, name: str) -> None:
        """Empty a database for the next test, or drop it when its schema is not as it was."""
        await execute(
            self._hosted.database,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            f"WHERE datname = '{name}'",
        )
        as_before: list[bool] = []

        async def empty(connection: asyncpg.Connection) -> None:
            async with connection.transaction():
                size = await connection.fetchval("SELECT pg_database_size(current_database())")
                if size <= _MOST_BYTES and await connection.fetchrow(_SHAPE) == self._shape:
                    await connection.execute(_EMPTY)
                    for table, rows in self._rows.items():
                        await _insert(connection, table, rows)
                    as_before.append(True)

        await execute(self.url(name), empty)
        if as_before:
            self._free.append(name)
        else:
            await self.drop(name)

    async def drop(self, name: str) -> None:
        """Drop a database."""
        await execute(self._hosted.database, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _insert(connection: asyncpg.Connection, table: str, rows: list[Any]) -> None:
    columns = ", ".join(rows[0].keys())
    values = ", ".join(f"${number}" for number in range(1, len(rows[0]) + 1))
    await connection.executemany(
        f"INSERT INTO {table} ({columns}) VALUES ({values})",
        [tuple(row) for row in rows],
    )
