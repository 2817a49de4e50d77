"""Replay check and backtest beside the running service, in a thread of their own."""

import asyncio
import time
from typing import Any

import msgspec

from libs.common.background_thread import run_in_thread
from libs.common.clock import SystemClock
from libs.common.db.connection import Connection, connect
from libs.common.errors import Conflict
from libs.common.kafka.topic_reader import get_end_offsets
from services.scoring.domain.cycle import build_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.handlers.backtest import VersionComparison, run_backtest
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry
from services.scoring.handlers.replay import compare_with_stored
from services.scoring.handlers.work_status import CONSUMED_TOPICS, list_unfinished
from services.scoring.repository import schedule

POLL_SECONDS = 0.3


class ReplaySettings(msgspec.Struct, frozen=True):
    """Where the history is, and how it is folded."""

    database_url: str
    bootstrap_servers: str
    partitions: int
    reaction_window: str = ""


class ReplayService:
    """Folds the whole stored history beside the running service, one replay at a time.

    Memory grows with the number of contacts, time with the number of touchpoints. The service
    goes on meanwhile, more slowly.
    """

    def __init__(self, settings: ReplaySettings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()

    async def check(self, seconds: float) -> dict[str, Any]:
        """Compare a fresh fold with what is stored.

        The outcome is that of `compare_with_stored`.

        Raises Conflict when scoring is not idle within `seconds`, or another replay runs;
        Unavailable.
        """
        self._refuse_second()
        async with self._lock:
            return await run_in_thread(lambda: _check(self._settings, seconds))

    async def backtest(self, text: str, where: str) -> VersionComparison:
        """Fold the history under a specification and the live version of its cycle.

        Raises ConfigurationError naming the place of a fault, Conflict when another replay runs,
        Unavailable.
        """
        spec = parse_cycle_spec(text, where)
        build_cycle(spec)
        self._refuse_second()
        async with self._lock:
            return await run_in_thread(lambda: _backtest(self._settings, text, where))

    def _refuse_second(self) -> None:
        if self._lock.locked():
            raise Conflict("another replay check or backtest is running: try again after it")


async def _check(settings: ReplaySettings, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        ends = await get_end_offsets(settings.bootstrap_servers, CONSUMED_TOPICS)
        connection = await connect(settings.database_url, application="scoring-replay")
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                unfinished = await list_unfinished(connection, ends, settings.partitions)
                if not unfinished:
                    return await _compare(connection, settings)
        finally:
            await connection.close(timeout=5)
        if time.monotonic() > deadline:
            raise Conflict(f"not idle within {seconds:g} s: {', '.join(unfinished)}")
        await asyncio.sleep(POLL_SECONDS)


async def _compare(connection: Connection, settings: ReplaySettings) -> dict[str, Any]:
    frontier = await schedule.get_frontier(connection, settings.partitions)
    registry = DatabaseCycleRegistry(settings.reaction_window)
    cycles = [cycle for cycle in await registry.get_active_cycles(connection) if cycle.live]
    return await compare_with_stored(connection, cycles, -1 if frontier is None else frontier)


async def _backtest(settings: ReplaySettings, text: str, where: str) -> VersionComparison:
    spec = parse_cycle_spec(text, where)
    connection = await connect(settings.database_url, application="scoring-backtest")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            live = [
                cycle
                for cycle in await DatabaseCycleRegistry().get_active_cycles(connection)
                if cycle.live and cycle.engine.name == spec.cycle
            ]
            then = build_cycle(spec.model_copy(update={"version": f"{spec.version}-backtest"}))
            return await run_backtest(
                connection, live[0] if live else None, then, SystemClock().now()
            )
    finally:
        await connection.close(timeout=5)
