"""The publisher and the topics on a real broker."""

import asyncio

import pytest

from libs.common.errors import InvalidMessage, Unavailable
from libs.common.kafka import accumulator
from libs.common.kafka.accumulator import MAX_RECORD_BYTES
from libs.common.kafka.admin import apply_topics, get_cluster_id
from libs.common.kafka.publisher import Publisher
from tests.support.kafka import make_topic, numbered_message, read_topic
from tests.support.waiting import wait_until


async def test_published_records_keep_their_order(servers, publisher):
    topic = await make_topic(servers.kafka)

    assert (
        await publisher.publish([numbered_message(topic, n) for n in range(50)], 5) == [None] * 50
    )
    assert [r.value for r in await read_topic(servers.kafka, topic)] == [
        b"%d" % n for n in range(50)
    ]


@pytest.mark.parametrize("wire_encoding", [True, False])
async def test_large_batches_keep_their_order(servers, monkeypatch, wire_encoding):
    topic = await make_topic(servers.kafka)
    monkeypatch.setattr(accumulator, "COMPRESSED", frozenset({topic}))
    compressing = Publisher(servers.kafka, wire_encoding=wire_encoding)

    sent = [numbered_message(topic, n, b"k%d" % (n % 7), size=n % 3 * 1_000) for n in range(1_000)]

    for start in (0, 500):
        assert not any(await compressing.publish(sent[start : start + 500], 5))

    await compressing.close()
    records = await read_topic(servers.kafka, topic)

    assert sorted(int(record.value) for record in records) == list(range(1_000))

    for key in {message.key for message in sent}:
        key_records = [(record.value, record.headers) for record in records if record.key == key]
        assert key_records == [
            (message.value, tuple(message.headers)) for message in sent if message.key == key
        ]


async def test_refused_record_fails_no_later_record(servers, publisher):
    """An idempotent producer fails all later records of a partition; it is replaced."""
    topic = await make_topic(servers.kafka, 1, max_message_bytes="2000")

    assert await publisher.publish([numbered_message(topic, 1)], 5) == [None]

    (fault,) = await publisher.publish([numbered_message(topic, 2, size=5_000)], 5)

    assert isinstance(fault, InvalidMessage)
    for number in range(3, 8):
        assert await publisher.publish([numbered_message(topic, number)], 5) == [None]
    assert [r.value for r in await read_topic(servers.kafka, topic, 1)] == [
        b"1",
        b"3",
        b"4",
        b"5",
        b"6",
        b"7",
    ]


async def test_oversize_record_is_refused_before_sending(servers, publisher):
    topic = await make_topic(servers.kafka)
    faults = await publisher.publish(
        [numbered_message(topic, 1, size=MAX_RECORD_BYTES), numbered_message(topic, 2)], 5
    )

    assert isinstance(faults[0], InvalidMessage)
    assert faults[1] is None


async def test_absent_broker_is_unavailable_within_timeout(servers):
    publisher = Publisher("127.0.0.1:1")
    started = asyncio.get_running_loop().time()

    with pytest.raises(Unavailable):
        await publisher.publish([numbered_message("x")], 1)
    assert asyncio.get_running_loop().time() - started < 5

    await publisher.close()


async def test_refused_record_does_not_rebuild_producer_forever(servers):
    """A rebuilt producer is not blamed for records in flight at the producer before it."""
    topic = await make_topic(servers.kafka, 3, max_message_bytes="2000")
    shared = Publisher(servers.kafka)

    async def client(number):
        faults = []
        for n in range(15):
            size = 5_000 if (number, n) == (3, 4) else 0
            faults += await shared.publish([numbered_message(topic, n, b"k%d" % number, size)], 5)
        return faults

    outcomes = [
        fault
        for faults in await asyncio.gather(*(client(n) for n in range(12)))
        for fault in faults
    ]
    assert sum(isinstance(f, InvalidMessage) for f in outcomes) == 1
    assert sum(isinstance(f, Unavailable) for f in outcomes) < 60
    assert await shared.publish([numbered_message(topic, 1)], 5) == [None]
    await shared.close()


async def test_applying_topics_is_idempotent_and_keeps_partitions(perigee_topics):
    created = await apply_topics(perigee_topics.kafka, 6)

    async def applied():  # a new topic is not described at once
        return await apply_topics(perigee_topics.kafka, 6) == []

    await wait_until(applied, what="no missing topic")
    assert created == [] or "touchpoints" in created
    with pytest.raises(Exception, match="PERIGEE_PARTITIONS"):
        await apply_topics(perigee_topics.kafka, 5)
    assert await get_cluster_id(perigee_topics.kafka)
    with pytest.raises(Unavailable):
        await get_cluster_id("127.0.0.1:1")
