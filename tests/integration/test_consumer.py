"""The consumer on a real broker, with its offset fence in a real database."""

import asyncio
import contextlib

import pytest
from aiokafka.errors import KafkaError

from libs.common.db import offsets
from libs.common.db.connection import Session, connect
from libs.common.db.outbox import Outbox
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import ConfigurationError, FenceLost, OffsetGap, Unavailable
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.record import offset_ranges
from libs.common.kafka.supervisor import supervise_consumer
from libs.common.messages import Message
from tests.support.kafka import make_topic
from tests.support.outbox import run_relays, unpublished_rows
from tests.support.waiting import wait_until


class Handler:
    """Collects numbers in a fenced transaction."""

    def __init__(self, database):
        self.session = Session(database, "test")
        self.seen = []
        self.dead_letters = []
        self.fail_once = []

    async def next_offset(self, topic, partition, beginning):
        async with self.session.acquire() as connection:
            return await offsets.upsert_next_offset(
                connection, "scoring", "test", (topic, partition), beginning
            )

    async def handle(self, records):
        if self.fail_once:
            raise self.fail_once.pop()
        async with self.session.acquire() as connection, unit_of_work(connection):
            await offsets.update_offsets(connection, "scoring", "test", offset_ranges(records))
            if any(r.value == b"bad" for r in records):
                raise ZeroDivisionError
            self.seen += [int(r.value) for r in records]
        return 0

    async def store_dead_letter(self, record, error):
        async with self.session.acquire() as connection, unit_of_work(connection):
            await offsets.update_offsets(connection, "scoring", "test", offset_ranges([record]))
        self.dead_letters.append(record.value)


@contextlib.asynccontextmanager
async def run_consumer(servers, topic, handler):
    stop = asyncio.Event()
    progress_offsets = {}

    async def progress(offsets_reached):
        progress_offsets.update(offsets_reached)

    consumer = Consumer(
        bootstrap_servers=servers.kafka,
        group=f"group-{topic}",
        topics=[topic],
        handler=handler,
        session_timeout_ms=6_000,
        on_progress=progress,
    )
    task = asyncio.create_task(consumer.run(stop))
    yield task, progress_offsets
    stop.set()
    await asyncio.gather(task, return_exceptions=True)
    await handler.session.close()


async def publish(publisher, topic, values, key=b"k"):
    faults = await publisher.publish([Message(topic, key, v, []) for v in values], 5)
    assert not any(faults)


async def test_bad_record_alone_becomes_dead_letter(servers, database, publisher):
    topic = await make_topic(servers.kafka)
    await publish(publisher, topic, [b"bad" if n in (7, 40) else b"%d" % n for n in range(60)])
    handler = Handler(database)
    async with run_consumer(servers, topic, handler):

        async def done():
            return len(handler.seen) == 58 and len(handler.dead_letters) == 2

        await wait_until(done)
    assert handler.seen == [n for n in range(60) if n not in (7, 40)]


async def test_transient_fault_and_lost_fence_retry_batch(servers, database, publisher):
    topic = await make_topic(servers.kafka)
    handler = Handler(database)
    handler.fail_once = [Unavailable("away"), FenceLost("another"), Unavailable("away")]
    await publish(publisher, topic, [b"%d" % n for n in range(20)])
    async with run_consumer(servers, topic, handler) as (_, reached):

        async def done():
            return len(handler.seen) == 20 and len(reached) == 3

        await wait_until(done)
    assert handler.seen == list(range(20))


async def test_new_consumer_starts_at_stored_offset(servers, database, publisher):
    topic = await make_topic(servers.kafka)
    for start in (0, 10):
        handler = Handler(database)
        await publish(publisher, topic, [b"%d" % n for n in range(start, start + 10)])
        async with run_consumer(servers, topic, handler):

            async def done(handler=handler):
                return len(handler.seen) == 10

            await wait_until(done)
        assert handler.seen == list(range(start, start + 10))


async def test_offset_gap_stops_consumer_with_its_range(servers, database, publisher):
    from aiokafka import TopicPartition
    from aiokafka.admin import RecordsToDelete

    from libs.common.kafka.admin import connect_admin as admin

    topic = await make_topic(servers.kafka, 1)
    await publish(publisher, topic, [b"%d" % n for n in range(10)])
    handler = Handler(database)
    await handler.next_offset(topic, 0, 0)
    client = await admin(servers.kafka)
    await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=5)})
    await client.close()
    async with run_consumer(servers, topic, handler) as (task, _):
        with pytest.raises(OffsetGap, match="begins at 5 and ends at 10, but 0 comes next"):
            await asyncio.wait_for(task, 20)
    assert handler.seen == []


async def test_consecutive_dead_letters_stop_consumer(servers, database, publisher, monkeypatch):
    monkeypatch.setattr("libs.common.kafka.dead_letters.MAX_CONSECUTIVE", 20)
    topic = await make_topic(servers.kafka, 1)

    await publish(publisher, topic, [b"bad"] * 25)

    async with run_consumer(servers, topic, Handler(database)) as (task, _):
        with pytest.raises(Exception, match="consecutive records"):
            await asyncio.wait_for(task, 60)


async def test_offset_fence_moves_once(database):
    connection = await connect(database, application="test")
    partition = ("t", 0)

    assert await offsets.upsert_next_offset(connection, "scoring", "g", partition, 3) == 3
    assert await offsets.upsert_next_offset(connection, "scoring", "g", partition, 9) == 3

    await offsets.update_offsets(connection, "scoring", "g", {partition: (3, 8)})

    with pytest.raises(FenceLost, match="no longer has t-0 at 3"):
        await offsets.update_offsets(connection, "scoring", "g", {partition: (3, 9)})

    await connection.close()


async def test_null_header_passes_dead_letters_and_relay(servers, database, publisher):
    from aiokafka import AIOKafkaProducer

    from libs.common.kafka.dead_letters import build_dead_letter
    from libs.common.kafka.record import Record

    topic = await make_topic(servers.kafka)
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka)
    await producer.start()
    await producer.send_and_wait(topic, b"bad", b"k", headers=[("x", None)])
    await producer.stop()

    class OutboxHandler(Handler):
        async def store_dead_letter(self, record: Record, error):
            async with self.session.acquire() as connection, unit_of_work(connection):
                await offsets.update_offsets(connection, "scoring", "test", offset_ranges([record]))
                dead_letter = build_dead_letter("scoring", record, error)
                await Outbox("scoring", 3).insert_messages(
                    connection,
                    [Message(topic, dead_letter.key, dead_letter.value, dead_letter.headers)],
                )
            self.dead_letters.append(record)

    handler = OutboxHandler(database)
    async with run_consumer(servers, topic, handler), run_relays(servers, database):

        async def done():
            return handler.dead_letters and not await unpublished_rows(database)

        await wait_until(done)


async def test_recreated_topic_is_offset_gap(servers, database, publisher):
    topic = await make_topic(servers.kafka, 1)
    handler = Handler(database)

    await handler.next_offset(topic, 0, 7)

    async with run_consumer(servers, topic, handler) as (task, _):
        with pytest.raises(OffsetGap, match="created anew"):
            await asyncio.wait_for(task, 20)


async def test_configuration_error_stops_consumer_without_dead_letters(
    servers, database, publisher
):
    topic = await make_topic(servers.kafka)
    await publish(publisher, topic, [b"%d" % n for n in range(20)])
    handler = Handler(database)
    handler.fail_once = [ConfigurationError("a version that this process cannot compile")] * 9

    async with run_consumer(servers, topic, handler) as (task, _):
        with pytest.raises(ConfigurationError):
            await asyncio.wait_for(task, 20)

    assert (handler.dead_letters, handler.seen) == ([], [])


async def test_failed_coordination_restarts_consumer(servers, database, publisher, monkeypatch):
    """aiokafka's coordination task can end on a broken connection; every poll then fails."""
    monkeypatch.setattr("libs.common.kafka.consumer.FAILED_POLLS", 3)
    topic = await make_topic(servers.kafka)
    handler, stop, consumers = Handler(database), asyncio.Event(), []

    def make_consumer():
        consumers.append(
            Consumer(bootstrap_servers=servers.kafka, group=f"group-{topic}", topics=[topic],
                     handler=handler, session_timeout_ms=servers.session_timeout_ms)
        )  # fmt: skip
        return consumers[-1]

    running = asyncio.create_task(supervise_consumer(make_consumer, stop))

    async def first_consumed():
        return handler.seen == [1]

    async def both_consumed():
        return handler.seen == [1, 2]

    await publish(publisher, topic, [b"1"])
    await wait_until(first_consumed)
    coordinator = consumers[0]._consumer._coordinator
    coordinator._coordination_task.cancel()
    coordinator._coordination_task = asyncio.get_running_loop().create_future()
    coordinator._coordination_task.set_exception(KafkaError("the handler is closed"))
    await publish(publisher, topic, [b"2"])
    await wait_until(both_consumed)
    assert len(consumers) == 2
    stop.set()
    await running
    await handler.session.close()
