"""Unit of work: its transaction ends on any network fault, and its errors are classified."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from libs.common.db import unit_of_work
from libs.common.db.connection import Session
from libs.common.errors import Unavailable
from tests.support.faulty_network import AsyncioNetwork


async def test_silent_server_does_not_block_transaction(database, monkeypatch):
    monkeypatch.setattr(unit_of_work, "ROLLBACK_SECONDS", 0.5)
    server, network = urlsplit(database), AsyncioNetwork()
    link = f"127.0.0.1:{network.link('postgres', server.port)}"
    session = Session(database.replace(f"{server.hostname}:{server.port}", link), "test")

    async def query_silent_server():
        async with session.acquire() as connection, unit_of_work.unit_of_work(connection):
            await connection.execute("SELECT 1")
            await asyncio.to_thread(network.inject, "postgres", "silent")
            await connection.execute("SELECT 2", timeout=0.5)

    with pytest.raises(Unavailable):
        await asyncio.wait_for(query_silent_server(), 30)
    await asyncio.to_thread(network.heal, "postgres")
    async with session.acquire() as connection:
        assert await connection.fetchval("SELECT 3") == 3
    await session.close()
    network.close()


async def test_schema_error_is_unavailable(database):
    session = Session(database, "test")

    with pytest.raises(Unavailable, match="UndefinedTable"):
        async with session.acquire() as connection:
            await connection.fetch("SELECT 1 FROM scoring.nowhere")
    with pytest.raises(asyncpg.DataError):
        async with session.acquire() as connection:
            await connection.fetch("SELECT 'x'::text::int")

    await session.close()
