"""The relay between a real database and a real broker."""

import asyncio

import pytest

from libs.common.db import outbox_quarantine
from libs.common.db.connection import Session, connect
from libs.common.db.outbox import Outbox
from libs.common.errors import NotFound
from tests.support.kafka import make_topic, numbered_message, read_topic
from tests.support.outbox import run_relays, unpublished_rows
from tests.support.waiting import wait_until


async def fill(database, topic, numbers, key=b"k"):
    connection = await connect(database, application="test")
    async with connection.transaction():
        await Outbox("scoring", 3).insert_messages(
            connection, [numbered_message(topic, n, key) for n in numbers]
        )
    await connection.close()


async def test_relays_publish_each_row_once_in_order(servers, database):
    topic = await make_topic(servers.kafka)
    async with run_relays(servers, database, 3):
        for start in range(0, 300, 10):
            await asyncio.gather(
                *(fill(database, topic, range(start, start + 10), b"key-%d" % k) for k in range(5))
            )

        async def empty():
            return not await unpublished_rows(database)

        await wait_until(empty)
    by_key = {}
    for record in await read_topic(servers.kafka, topic):
        by_key.setdefault(record.key, []).append(int(record.value))
    assert by_key == {b"key-%d" % k: list(range(300)) for k in range(5)}


async def test_quarantined_row_blocks_only_its_key(servers, database):
    topic = await make_topic(servers.kafka, 3, max_message_bytes="2000")
    connection = await connect(database, application="test")
    async with connection.transaction():
        rows = [
            numbered_message(topic, 1, b"a"),
            numbered_message(topic, 2, b"a", 5_000),
            numbered_message(topic, 3, b"a"),
            numbered_message(topic, 4, b"b"),
        ]
        await Outbox("scoring", 3).insert_messages(connection, rows)
    await connection.close()
    async with run_relays(servers, database):

        async def quarantined():
            unpublished = await unpublished_rows(database)
            return len(unpublished) == 2 and unpublished[0]["refused"] is not None

        await wait_until(quarantined)
        values = {r.value for r in await read_topic(servers.kafka, topic)}
        assert values == {b"1", b"4"}
        session = Session(database, "test")
        async with session.acquire() as connection:
            (row,) = await outbox_quarantine.list_quarantined(connection, "scoring")
            assert (row.topic, row.key, row.behind, row.skipped) == (topic, "a", 1, False)
            assert (
                await outbox_quarantine.get_quarantined_value(connection, "scoring", row.id)
                == rows[1].value
            )
            await outbox_quarantine.update_for_resend(connection, "scoring", row.id)
            await wait_until(quarantined)  # it is still too large
            assert len({r.value for r in await read_topic(servers.kafka, topic)}) == 2
            await outbox_quarantine.update_as_skipped(connection, "scoring", row.id)

            async def key_continues():
                return [r["refused"] is not None for r in await unpublished_rows(database)] == [
                    True
                ]

            await wait_until(key_continues)
            (row,) = await outbox_quarantine.list_quarantined(connection, "scoring")
            assert (row.skipped, row.behind) == (True, 0)
        with pytest.raises(NotFound, match="no refused row 999"):
            async with session.acquire() as connection:
                await outbox_quarantine.update_as_skipped(connection, "scoring", 999)
        await session.close()
    assert {r.value for r in await read_topic(servers.kafka, topic)} == {b"1", b"4", b"3"}
