"""Counters of PostgreSQL over a run: CPU, WAL, rows, waits for locks, statements."""

import asyncio
import time
from typing import Any, Self

import asyncpg

from tests.benchmarks.scoring_runs import postgres_cpu

_SAMPLE_SECONDS = 0.01
_COUNTER_NAMES = ("wal_bytes", "page_images", "rows_written", "checkpoints")
_COUNTERS = """SELECT
 (SELECT wal_bytes FROM pg_stat_wal)::float AS wal_bytes,
 (SELECT wal_fpi FROM pg_stat_wal)::float AS page_images,
 (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables
  WHERE schemaname = 'scoring')::float AS rows_written,
 (SELECT num_timed + num_requested FROM pg_stat_checkpointer)::int AS checkpoints"""
_WAITING_FOR_LOCKS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
_STATEMENTS = (
    "SELECT total_exec_time * 1000 AS us, left(regexp_replace(query, '\\s+', ' ', 'g'), 100) "
    "FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database "
    "WHERE datname = current_database()) ORDER BY 1 DESC LIMIT 15"
)


class PostgresCounters:
    """The counters between `start` and `stop`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._ended = asyncio.Event()
        self._wait_seconds = 0.0

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect, and create the extension that counts statements."""
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        return cls(connection)

    async def start(self) -> None:
        """Reset the statements, read the counters and begin to sample lock waits."""
        await self._connection.execute("SELECT pg_stat_statements_reset()")
        self._before = await self._read_counters()
        self._cpu = postgres_cpu()
        self._sampler = asyncio.create_task(self._sample())

    async def _read_counters(self) -> asyncpg.Record:
        row = await self._connection.fetchrow(_COUNTERS)
        assert row is not None
        return row

    async def _sample(self) -> None:
        sampled_at = time.perf_counter()
        while not self._ended.is_set():
            await asyncio.sleep(_SAMPLE_SECONDS)
            waiting = await self._connection.fetchval(_WAITING_FOR_LOCKS)
            now = time.perf_counter()
            self._wait_seconds += waiting * (now - sampled_at)
            sampled_at = now

    async def stop(self) -> None:
        """Stop counting CPU and lock waits."""
        self._cpu = postgres_cpu() - self._cpu
        self._ended.set()
        await self._sampler

    async def read(self, count: int) -> dict[str, Any]:
        """Return the figures per touchpoint of `count` by the fields of `GrowthRun`, and close.

        Call it after the measured connections are closed: they flush their counters then.
        """
        after = await self._read_counters()
        statements = await self._connection.fetch(_STATEMENTS)
        await self._connection.close()
        difference = {name: after[name] - self._before[name] for name in _COUNTER_NAMES}
        return {
            "postgres_us": self._cpu / count * 1e6,
            "lock_wait_us": self._wait_seconds / count * 1e6,
            "checkpoints": difference.pop("checkpoints"),
            "statements": [(us / count, text) for us, text in statements],
            **{name: value / count for name, value in difference.items()},
        }
