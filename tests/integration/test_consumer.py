"""The consumer on a real broker, its fence in a real database."""

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
from libs.common.kafka.dead_letters import MAX_CONSECUTIVE
from libs.common.kafka.record import offset_ranges
from libs.common.kafka.supervisor import supervise_consumer
from libs.common.messages import Message
from tests.support.kafka import make_topic
from tests.support.outbox import run_relays, unpublished_rows
from tests.support.waiting import wait_until


class Handler:
    """Counts numbers per partition in a fenced transaction."""

    def __init__(self, database):
        self.session = Session(database, "test")
        self.seen = []
        self.buried = []
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
        self.buried.append(record.value)


@contextlib.asynccontextmanager
async def consuming(servers, topic, handler):
    stop = asyncio.Event()
    reached = {}

    async def progress(found):
        reached.update(found)

    consumer = Consumer(
        bootstrap_servers=servers.kafka,
        group=f"group-{topic}",
        topics=[topic],
        handler=handler,
        session_timeout_ms=6_000,
        on_progress=progress,
    )
    task = asyncio.create_task(consumer.run(stop))
    yield task, reached
    stop.set()
    await asyncio.gather(task, return_exceptions=True)
    await handler.session.close()


async def publish(publisher, topic, values, key=b"k"):
    faults = await publisher.publish([Message(topic, key, v, []) for v in values], 5)
    assert not any(faults)


async def test_one_bad_record_is_found_by_halving_and_buried_alone(servers, database, publisher):
    topic = await make_topic(servers.kafka)
    await publish(publisher, topic, [b"bad" if n in (7, 40) else b"%d" % n for n in range(60)])
    handler = Handler(database)
    async with consuming(servers, topic, handler):

        async def done():
            return len(handler.seen) == 58 and len(handler.buried) == 2

        await wait_until(done)
    assert handler.seen == [n for n in range(60) if n not in (7, 40)]


async def test_a_passing_fault_and_a_lost_fence_retry_the_batch(servers, database, publisher):
    topic = await make_topic(servers.kafka)
    handler = Handler(database)
    handler.fail_once = [Unavailable("away"), FenceLost("another"), Unavailable("away")]
    await publish(publisher, topic, [b"%d" % n for n in range(20)])
    async with consuming(servers, topic, handler) as (_, reached):

        async def done():
            return len(handler.seen) == 20 and len(reached) == 3

        await wait_until(done)
    assert handler.seen == list(range(20))


async def test_a_new_consumer_begins_where_the_row_says(servers, database, publisher):
    topic = await make_topic(servers.kafka)
    for begin in (0, 10):
        handler = Handler(database)
        await publish(publisher, topic, [b"%d" % n for n in range(begin, begin + 10)])
        async with consuming(servers, topic, handler):

            async def done(handler=handler):
                return len(handler.seen) == 10

            await wait_until(done)
        assert handler.seen == list(range(begin, begin + 10))


async def test_a_gap_in_the_log_stops_with_a_named_error(servers, database, publisher):
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
    async with consuming(servers, topic, handler) as (task, _):
        with pytest.raises(OffsetGap, match="begins at 5 and ends at 10, but 0 comes next"):
            await asyncio.wait_for(task, 20)
    assert handler.seen == []


async def test_too_many_dead_letters_in_a_row_stop_the_consumer(servers, database, publisher):
    topic = await make_topic(servers.kafka, 1)
    await publish(publisher, topic, [b"bad"] * (MAX_CONSECUTIVE + 5))
    async with consuming(servers, topic, Handler(database)) as (task, _):
        with pytest.raises(Exception, match="consecutive records"):
            await asyncio.wait_for(task, 60)


async def test_the_fence_moves_once(database):
    connection = await connect(database, application="test")
    place = ("t", 0)
    assert await offsets.upsert_next_offset(connection, "scoring", "g", place, 3) == 3
    assert await offsets.upsert_next_offset(connection, "scoring", "g", place, 9) == 3
    await offsets.update_offsets(connection, "scoring", "g", {place: (3, 8)})
    with pytest.raises(FenceLost, match="no longer has t-0 at 3"):
        await offsets.update_offsets(connection, "scoring", "g", {place: (3, 9)})
    await connection.close()


async def test_a_null_header_passes_the_dead_letters_and_the_relay(servers, database, publisher):
    from aiokafka import AIOKafkaProducer

    from libs.common.kafka.dead_letters import build_dead_letter
    from libs.common.kafka.record import Record

    topic = await make_topic(servers.kafka)
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka)
    await producer.start()
    await producer.send_and_wait(topic, b"bad", b"k", headers=[("x", None)])
    await producer.stop()

    class Burying(Handler):
        async def store_dead_letter(self, record: Record, error):
            async with self.session.acquire() as connection, unit_of_work(connection):
                await offsets.update_offsets(connection, "scoring", "test", offset_ranges([record]))
                letter = build_dead_letter("scoring", record, error)
                await Outbox("scoring", 3).insert_messages(
                    connection, [Message(topic, letter.key, letter.value, letter.headers)]
                )
            self.buried.append(record)

    handler = Burying(database)
    async with consuming(servers, topic, handler), run_relays(servers, database):

        async def done():
            return handler.buried and not await unpublished_rows(database)

        await wait_until(done)


async def test_a_topic_made_anew_is_a_gap_too(servers, database, publisher):
    topic = await make_topic(servers.kafka, 1)
    handler = Handler(database)
    await handler.next_offset(topic, 0, 7)
    async with consuming(servers, topic, handler) as (task, _):
        with pytest.raises(OffsetGap, match="created anew"):
            await asyncio.wait_for(task, 20)


async def test_a_wrong_configuration_stops_the_consumer_and_buries_nothing(
    servers, database, publisher
):
    topic = await make_topic(servers.kafka)
    await publish(publisher, topic, [b"%d" % n for n in range(20)])
    handler = Handler(database)
    handler.fail_once = [ConfigurationError("a version that this process cannot compile")] * 9
    async with consuming(servers, topic, handler) as (task, _):
        with pytest.raises(ConfigurationError):
            await asyncio.wait_for(task, 20)
    assert (handler.buried, handler.seen) == ([], [])


async def test_a_group_that_cannot_be_coordinated_any_more_is_joined_anew(
    servers, database, publisher, monkeypatch
):
    """aiokafka's coordination can end for good, on a connection that broke in the wrong moment: polls then fail for ever."""
    monkeypatch.setattr("libs.common.kafka.consumer.FAILED_POLLS", 3)
    topic = await make_topic(servers.kafka)
    handler, stop, made = Handler(database), asyncio.Event(), []

    def make():
        made.append(
            Consumer(bootstrap_servers=servers.kafka, group=f"group-{topic}", topics=[topic], handler=handler,
                     session_timeout_ms=servers.session_timeout_ms)
        )  # fmt: skip
        return made[-1]

    running = asyncio.create_task(supervise_consumer(make, stop))

    async def first():
        return handler.seen == [1]

    async def both():
        return handler.seen == [1, 2]

    await publish(publisher, topic, [b"1"])
    await wait_until(first)
    coordinator = made[0]._consumer._coordinator
    coordinator._coordination_task.cancel()
    coordinator._coordination_task = asyncio.get_running_loop().create_future()
    coordinator._coordination_task.set_exception(KafkaError("the handler is closed"))
    await publish(publisher, topic, [b"2"])
    await wait_until(both)
    assert len(made) == 2
    stop.set()
    await running
    await handler.session.close()
