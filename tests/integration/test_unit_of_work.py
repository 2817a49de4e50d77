"""A transaction ends, whatever the network does; and what went wrong has the right name."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from libs.common.db import unit_of_work
from libs.common.db.connection import Session
from libs.common.errors import Unavailable
from tests.support.faulty_network import AsyncioNetwork


async def test_a_server_that_falls_silent_in_a_transaction_holds_nobody_up(database, monkeypatch):
    monkeypatch.setattr(unit_of_work, "ROLLBACK_SECONDS", 0.5)
    server, wire = urlsplit(database), AsyncioNetwork()
    link = f"127.0.0.1:{wire.link('postgres', server.port)}"
    session = Session(database.replace(f"{server.hostname}:{server.port}", link), "test")

    async def fall_silent():
        async with session.acquire() as connection, unit_of_work.unit_of_work(connection):
            await connection.execute("SELECT 1")
            await asyncio.to_thread(wire.inject, "postgres", "silent")
            await connection.execute("SELECT 2", timeout=0.5)

    with pytest.raises(Unavailable):
        await asyncio.wait_for(fall_silent(), 30)
    await asyncio.to_thread(wire.heal, "postgres")
    async with session.acquire() as connection:
        assert await connection.fetchval("SELECT 3") == 3
    await session.close()
    wire.close()


async def test_what_is_wrong_with_the_schema_is_not_the_datas_fault(database):
    session = Session(database, "test")
    with pytest.raises(Unavailable, match="UndefinedTable"):
        async with session.acquire() as connection:
            await connection.fetch("SELECT 1 FROM scoring.nowhere")
    with pytest.raises(asyncpg.DataError):
        async with session.acquire() as connection:
            await connection.fetch("SELECT 'x'::text::int")
    await session.close()
