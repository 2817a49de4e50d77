"""Publisher, relay and consumer on a real broker and a real database."""

import asyncio
import contextlib

import asyncpg
import pytest
from aiokafka.errors import KafkaError

from libs.common.db import offsets, quarantine
from libs.common.db.connection import Session, connect
from libs.common.db.outbox import Outbox
from libs.common.db.relay import Relay
from libs.common.db.unit_of_work import unit_of_work
from libs.common.errors import ConfigurationError, FenceLost, InvalidMessage, LogGap, NotFound, Unavailable
from libs.common.kafka.admin import apply_topics, cluster_id
from libs.common.kafka.consumer import Consumer
from libs.common.kafka.dead_letter import MAX_IN_A_ROW
from libs.common.kafka.publisher import MAX_RECORD_BYTES, Publisher
from libs.common.kafka.record import spans
from libs.common.kafka.running import keep_consuming
from libs.common.messages import Message
from tests.support.kafka import make_topic, read_topic


def message(topic, number=0, key=b"k", size=0):
    return Message(topic, key, b"%d" % number + b" " * size, [("ce_id", b"%d" % number)])


@pytest.fixture
async def publisher(servers):
    found = Publisher(servers.kafka)
    yield found
    await found.close()


async def test_published_records_are_there_in_order(servers, publisher):
    topic = await make_topic(servers.kafka)
    assert await publisher.publish([message(topic, n) for n in range(50)], 5) == [None] * 50
    assert [r.value for r in await read_topic(servers.kafka, topic)] == [b"%d" % n for n in range(50)]


async def test_a_refused_record_costs_no_later_one(servers, publisher):
    """An idempotent aiokafka producer fails every later record of the partition; the publisher builds a new one."""
    topic = await make_topic(servers.kafka, 1, max_message_bytes="2000")
    assert await publisher.publish([message(topic, 1)], 5) == [None]
    (fault,) = await publisher.publish([message(topic, 2, size=5_000)], 5)
    assert isinstance(fault, InvalidMessage)
    for number in range(3, 8):
        assert await publisher.publish([message(topic, number)], 5) == [None]
    assert [r.value for r in await read_topic(servers.kafka, topic, 1)] == [b"1", b"3", b"4", b"5", b"6", b"7"]


async def test_an_oversize_record_is_refused_before_it_is_sent(servers, publisher):
    topic = await make_topic(servers.kafka)
    faults = await publisher.publish([message(topic, 1, size=MAX_RECORD_BYTES), message(topic, 2)], 5)
    assert isinstance(faults[0], InvalidMessage)
    assert faults[1] is None


async def test_no_broker_is_unavailable_within_the_time(servers):
    nowhere = Publisher("127.0.0.1:1")
    begun = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await nowhere.publish([message("x")], 1)
    assert asyncio.get_running_loop().time() - begun < 5
    await nowhere.close()


async def test_applying_topics_is_idempotent_and_guards_the_partitions(servers):
    first = await apply_topics(servers.kafka, 6)
    assert await apply_topics(servers.kafka, 6) == []
    assert first == [] or "touchpoints" in first
    with pytest.raises(Exception, match="PERIGEE_PARTITIONS"):
        await apply_topics(servers.kafka, 5)
    assert await cluster_id(servers.kafka)
    with pytest.raises(Unavailable):
        await cluster_id("127.0.0.1:1")


async def fill(database, topic, numbers, key=b"k"):
    connection = await connect(database, application="test")
    async with connection.transaction():
        await Outbox("scoring", 3).write(connection, [message(topic, n, key) for n in numbers])
    await connection.close()


async def left_in_outbox(database):
    connection = await connect(database, application="test")
    try:
        return await connection.fetch("SELECT id, refused FROM scoring.outbox ORDER BY id")
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def relays(servers, database, count=1):
    stop = asyncio.Event()
    publishers = [Publisher(servers.kafka) for _ in range(count)]
    tasks = [asyncio.create_task(Relay(database, "scoring", 3, p).run(stop)) for p in publishers]
    yield
    stop.set()
    await asyncio.gather(*tasks)
    for p in publishers:
        await p.close()


async def until(condition, seconds=20):
    end = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < end, "not in time"
        await asyncio.sleep(0.05)


async def test_three_relays_publish_each_row_once_and_in_order_per_key(servers, database):
    topic = await make_topic(servers.kafka)
    async with relays(servers, database, 3):
        for begin in range(0, 300, 10):
            await asyncio.gather(*(fill(database, topic, range(begin, begin + 10), b"key-%d" % k) for k in range(5)))

        async def empty():
            return not await left_in_outbox(database)

        await until(empty)
    by_key = {}
    for record in await read_topic(servers.kafka, topic):
        by_key.setdefault(record.key, []).append(int(record.value))
    assert by_key == {b"key-%d" % k: list(range(300)) for k in range(5)}


async def test_a_refused_row_is_quarantined_and_holds_back_its_own_key_only(servers, database):
    topic = await make_topic(servers.kafka, 3, max_message_bytes="2000")
    connection = await connect(database, application="test")
    async with connection.transaction():
        rows = [
            message(topic, 1, b"a"),
            message(topic, 2, b"a", 5_000),
            message(topic, 3, b"a"),
            message(topic, 4, b"b"),
        ]
        await Outbox("scoring", 3).write(connection, rows)
    await connection.close()
    async with relays(servers, database):

        async def settled():
            left = await left_in_outbox(database)
            return len(left) == 2 and left[0]["refused"] is not None

        await until(settled)
        values = {r.value for r in await read_topic(servers.kafka, topic)}
        assert values == {b"1", b"4"}
        session = Session(database, "test")
        async with session.use() as connection:
            (row,) = await quarantine.refused(connection, "scoring")
            assert (row.topic, row.key, row.behind, row.skipped) == (topic, "a", 1, False)
            assert await quarantine.value(connection, "scoring", row.id) == rows[1].value
            await quarantine.resend(connection, "scoring", row.id)
            await until(settled)  # it is as large as before, so it is refused again
            assert len({r.value for r in await read_topic(servers.kafka, topic)}) == 2
            await quarantine.skip(connection, "scoring", row.id)

            async def passed():
                return [r["refused"] is not None for r in await left_in_outbox(database)] == [True]

            await until(passed)
            (row,) = await quarantine.refused(connection, "scoring")
            assert (row.skipped, row.behind) == (True, 0)
        with pytest.raises(NotFound, match="no refused row 999"):
            async with session.use() as connection:
                await quarantine.skip(connection, "scoring", 999)
        await session.close()
    assert {r.value for r in await read_topic(servers.kafka, topic)} == {b"1", b"4", b"3"}


class Handler:
    """Counts numbers per partition in a fenced transaction."""

    def __init__(self, database):
        self.session = Session(database, "test")
        self.seen = []
        self.buried = []
        self.fail_once = []

    async def next_offset(self, topic, partition, beginning):
        async with self.session.use() as connection:
            return await offsets.next_offset(connection, "scoring", "test", (topic, partition), beginning)

    async def handle(self, records):
        if self.fail_once:
            raise self.fail_once.pop()
        async with self.session.use() as connection, unit_of_work(connection):
            await offsets.advance(connection, "scoring", "test", spans(records))
            if any(r.value == b"bad" for r in records):
                raise ZeroDivisionError
            self.seen += [int(r.value) for r in records]
        return 0

    async def bury(self, record, error):
        async with self.session.use() as connection, unit_of_work(connection):
            await offsets.advance(connection, "scoring", "test", spans([record]))
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

        await until(done)
    assert handler.seen == [n for n in range(60) if n not in (7, 40)]


async def test_a_passing_fault_and_a_lost_fence_retry_the_batch(servers, database, publisher):
    topic = await make_topic(servers.kafka)
    handler = Handler(database)
    handler.fail_once = [Unavailable("away"), FenceLost("another"), Unavailable("away")]
    await publish(publisher, topic, [b"%d" % n for n in range(20)])
    async with consuming(servers, topic, handler) as (_, reached):

        async def done():
            return len(handler.seen) == 20 and len(reached) == 3

        await until(done)
    assert handler.seen == list(range(20))


async def test_a_new_consumer_begins_where_the_row_says(servers, database, publisher):
    topic = await make_topic(servers.kafka)
    for begin in (0, 10):
        handler = Handler(database)
        await publish(publisher, topic, [b"%d" % n for n in range(begin, begin + 10)])
        async with consuming(servers, topic, handler):

            async def done(handler=handler):
                return len(handler.seen) == 10

            await until(done)
        assert handler.seen == list(range(begin, begin + 10))


async def test_a_gap_in_the_log_stops_with_a_named_error(servers, database, publisher):
    from aiokafka import TopicPartition
    from aiokafka.admin import RecordsToDelete

    from libs.common.kafka.admin import connect as admin

    topic = await make_topic(servers.kafka, 1)
    await publish(publisher, topic, [b"%d" % n for n in range(10)])
    handler = Handler(database)
    await handler.next_offset(topic, 0, 0)
    client = await admin(servers.kafka)
    await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=5)})
    await client.close()
    async with consuming(servers, topic, handler) as (task, _):
        with pytest.raises(LogGap, match="begins at 5 and ends at 10, but 0 comes next"):
            await asyncio.wait_for(task, 20)
    assert handler.seen == []


async def test_too_many_dead_letters_in_a_row_stop_the_consumer(servers, database, publisher):
    topic = await make_topic(servers.kafka, 1)
    await publish(publisher, topic, [b"bad"] * (MAX_IN_A_ROW + 5))
    async with consuming(servers, topic, Handler(database)) as (task, _):
        with pytest.raises(Exception, match="in a row"):
            await asyncio.wait_for(task, 60)


async def test_the_fence_moves_once(database):
    connection = await connect(database, application="test")
    place = ("t", 0)
    assert await offsets.next_offset(connection, "scoring", "g", place, 3) == 3
    assert await offsets.next_offset(connection, "scoring", "g", place, 9) == 3
    await offsets.advance(connection, "scoring", "g", {place: (3, 8)})
    with pytest.raises(FenceLost, match="no longer has t-0 at 3"):
        await offsets.advance(connection, "scoring", "g", {place: (3, 9)})
    await connection.close()


async def test_many_clients_and_one_refused_record_do_not_rebuild_for_ever(servers):
    """Each rebuilt producer used to be blamed for what its forerunner had under way."""
    topic = await make_topic(servers.kafka, 3, max_message_bytes="2000")
    shared = Publisher(servers.kafka)

    async def client(number):
        faults = []
        for n in range(15):
            size = 5_000 if (number, n) == (3, 4) else 0
            faults += await shared.publish([message(topic, n, b"k%d" % number, size)], 5)
        return faults

    outcomes = [fault for faults in await asyncio.gather(*(client(n) for n in range(12))) for fault in faults]
    assert sum(isinstance(f, InvalidMessage) for f in outcomes) == 1
    assert sum(isinstance(f, Unavailable) for f in outcomes) < 60
    assert await shared.publish([message(topic, 1)], 5) == [None]
    await shared.close()


async def test_a_null_header_passes_the_dead_letters_and_the_relay(servers, database, publisher):
    from aiokafka import AIOKafkaProducer

    from libs.common.kafka.dead_letter import dead_letter
    from libs.common.kafka.record import Record

    topic = await make_topic(servers.kafka)
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka)
    await producer.start()
    await producer.send_and_wait(topic, b"bad", b"k", headers=[("x", None)])
    await producer.stop()

    class Burying(Handler):
        async def bury(self, record: Record, error):
            async with self.session.use() as connection, unit_of_work(connection):
                await offsets.advance(connection, "scoring", "test", spans([record]))
                letter = dead_letter("scoring", record, error)
                await Outbox("scoring", 3).write(connection, [Message(topic, letter.key, letter.value, letter.headers)])
            self.buried.append(record)

    handler = Burying(database)
    async with consuming(servers, topic, handler), relays(servers, database):

        async def done():
            return handler.buried and not await left_in_outbox(database)

        await until(done)


async def test_a_topic_made_anew_is_a_gap_too(servers, database, publisher):
    topic = await make_topic(servers.kafka, 1)
    handler = Handler(database)
    await handler.next_offset(topic, 0, 7)
    async with consuming(servers, topic, handler) as (task, _):
        with pytest.raises(LogGap, match="made anew"):
            await asyncio.wait_for(task, 20)


async def test_a_wrong_configuration_stops_the_consumer_and_buries_nothing(servers, database, publisher):
    topic = await make_topic(servers.kafka)
    await publish(publisher, topic, [b"%d" % n for n in range(20)])
    handler = Handler(database)
    handler.fail_once = [ConfigurationError("a version that this process cannot compile")] * 9
    async with consuming(servers, topic, handler) as (task, _):
        with pytest.raises(ConfigurationError):
            await asyncio.wait_for(task, 20)
    assert (handler.buried, handler.seen) == ([], [])


async def test_what_is_wrong_with_the_schema_is_not_the_datas_fault(database):
    session = Session(database, "test")
    with pytest.raises(Unavailable, match="UndefinedTable"):
        async with session.use() as connection:
            await connection.fetch("SELECT 1 FROM scoring.nowhere")
    with pytest.raises(asyncpg.DataError):
        async with session.use() as connection:
            await connection.fetch("SELECT 'x'::text::int")
    await session.close()


async def test_a_group_that_cannot_be_coordinated_any_more_is_joined_anew(servers, database, publisher):
    """aiokafka's coordination can end for good, on a connection that broke in the wrong moment: polls then fail for ever."""
    topic = await make_topic(servers.kafka)
    handler, stop, made = Handler(database), asyncio.Event(), []

    def make():
        made.append(
            Consumer(bootstrap_servers=servers.kafka, group=f"group-{topic}", topics=[topic], handler=handler,
                     session_timeout_ms=6_000)
        )  # fmt: skip
        return made[-1]

    running = asyncio.create_task(keep_consuming(make, stop))

    async def first():
        return handler.seen == [1]

    async def both():
        return handler.seen == [1, 2]

    await publish(publisher, topic, [b"1"])
    await until(first)
    coordinator = made[0]._consumer._coordinator
    coordinator._coordination_task.cancel()
    coordinator._coordination_task = asyncio.get_running_loop().create_future()
    coordinator._coordination_task.set_exception(KafkaError("the handler is closed"))
    await publish(publisher, topic, [b"2"])
    await until(both)
    assert len(made) == 2
    stop.set()
    await running
    await handler.session.close()
