"""The accumulator gathers records by partition; a fake producer acknowledges batches by hand."""

import asyncio
from typing import NamedTuple

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from libs.common.errors import Unavailable
from libs.common.kafka import accumulator as module
from libs.common.kafka.accumulator import Accumulator
from libs.common.messages import Message
from libs.common.partitioner import partition_for_key


class SentBatch(NamedTuple):
    partition: int
    records: int
    acknowledgement: asyncio.Future[None]


class FakeProducer:
    """Records batches; tests complete their acknowledgements."""

    def __init__(self):
        self.batches = []
        self.fault = None

    async def partitions_for(self, topic):
        return {0, 1}

    async def send_batch(self, builder, topic, *, partition):
        if self.fault is not None:
            raise self.fault
        acknowledgement = asyncio.get_running_loop().create_future()
        self.batches.append(SentBatch(partition, builder.record_count(), acknowledgement))
        return acknowledgement


@pytest.fixture
def producer():
    return FakeProducer()


@pytest.fixture(params=[True, False], ids=["wire encoding", "aiokafka batches"])
async def accumulator(request, producer, monkeypatch):
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 1_000)
    accumulator = Accumulator(producer, 0, wire_encoding=request.param)
    await accumulator.load_topic("t")
    yield accumulator
    await accumulator.close()


KEYS = [next(b"%d" % n for n in range(99) if partition_for_key(b"%d" % n, 2) == p) for p in (0, 1)]


def append_message(accumulator, partition=0, size=10, seconds=60.0):
    message = Message("t", KEYS[partition], b"x" * size, [])
    return accumulator.append([message], asyncio.get_running_loop().time() + seconds)[0]


async def run_loop():
    for _ in range(5):
        await asyncio.sleep(0)
    await asyncio.sleep(0.002)


async def test_records_during_delivery_form_one_batch(producer, accumulator):
    first = append_message(accumulator)
    await run_loop()
    later = [append_message(accumulator) for _ in range(5)]

    await run_loop()

    assert [batch.records for batch in producer.batches] == [1]

    producer.batches[0].acknowledgement.set_result(None)
    await run_loop()

    assert first.completed
    assert not later[0].completed
    assert [batch.records for batch in producer.batches] == [1, 5]
    assert len({id(batch) for batch in later}) == 1

    producer.batches[1].acknowledgement.set_result(None)
    await run_loop()

    assert later[0].completed
    assert accumulator._bytes == 0


async def test_partitions_do_not_wait_for_each_other(producer, accumulator):
    append_message(accumulator, 0)
    append_message(accumulator, 1)

    await run_loop()

    assert sorted(batch.partition for batch in producer.batches) == [0, 1]

    producer.batches[1].acknowledgement.set_result(None)
    acknowledged_partition = producer.batches[1].partition
    append_message(accumulator, acknowledged_partition)
    await run_loop()

    assert [batch.partition for batch in producer.batches].count(acknowledged_partition) == 2


async def test_full_batch_is_followed_by_next_in_order(producer, accumulator):
    pending = [append_message(accumulator, size=300) for _ in range(7)]
    await run_loop()

    while not pending[-1].completed:
        producer.batches[-1].acknowledgement.set_result(None)
        await run_loop()

    assert [batch.records for batch in producer.batches] == [3, 3, 1]


async def test_error_fails_its_batch_but_not_the_next(producer, accumulator):
    first = append_message(accumulator)
    await run_loop()
    second = append_message(accumulator)
    producer.batches[0].acknowledgement.set_exception(MessageSizeTooLargeError())

    await run_loop()

    assert isinstance(first.error, MessageSizeTooLargeError)

    producer.batches[1].acknowledgement.set_result(None)
    await run_loop()

    assert second.error is None


async def test_unexpected_error_does_not_block_the_partition(producer, accumulator):
    first = append_message(accumulator)
    producer.fault = ZeroDivisionError("a bug in a library")
    await run_loop()
    producer.fault = None

    assert isinstance(first.error, ZeroDivisionError)

    append_message(accumulator)
    await run_loop()

    assert len(producer.batches) == 1


async def test_expired_batch_fails_without_being_sent(producer, accumulator):
    append_message(accumulator)
    await run_loop()
    expiring = append_message(accumulator, seconds=0.01)

    await asyncio.wait_for(expiring.acknowledgement(), 5)

    assert isinstance(expiring.error, Unavailable)

    next_batch = append_message(accumulator)

    assert next_batch is not expiring

    producer.batches[0].acknowledgement.set_result(None)
    await run_loop()

    assert [batch.records for batch in producer.batches] == [1, 1]

    producer.batches[1].acknowledgement.set_result(None)
    await run_loop()

    assert (next_batch.error, next_batch.completed, accumulator._bytes) == (None, True, 0)


async def test_in_flight_batch_fails_once_at_its_deadline(producer, accumulator):
    pending = append_message(accumulator, seconds=0.3)
    await run_loop()

    await asyncio.wait_for(pending.acknowledgement(), 5)

    assert isinstance(pending.error, Unavailable)
    assert accumulator._bytes > 10, "record and headers are still in flight"

    producer.batches[0].acknowledgement.set_result(None)
    await run_loop()

    assert (isinstance(pending.error, Unavailable), accumulator._bytes) == (True, 0)


async def test_append_beyond_byte_limit_is_refused(producer, accumulator, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 25)
    append_message(accumulator)
    append_message(accumulator)

    refused = append_message(accumulator)

    assert isinstance(refused, Unavailable)
    assert "bytes wait" in str(refused)

    await run_loop()
    producer.batches[0].acknowledgement.set_result(None)
    await run_loop()

    assert isinstance(append_message(accumulator), module.PendingBatch)


async def test_close_fails_sent_and_waiting_batches(producer, accumulator):
    sent = append_message(accumulator)
    await run_loop()
    waiting = append_message(accumulator)

    await accumulator.close()

    assert isinstance(sent.error, Unavailable)
    assert isinstance(waiting.error, Unavailable)


async def test_drain_waits_for_in_flight_batches(producer, accumulator):
    pending = append_message(accumulator)
    await run_loop()
    asyncio.get_running_loop().call_later(
        0.05, producer.batches[0].acknowledgement.set_result, None
    )

    await accumulator.drain(5)

    assert pending.completed


async def test_cancelled_delivery_does_not_block_the_partition(producer, accumulator):
    first = append_message(accumulator)
    await run_loop()
    producer.batches[0].acknowledgement.cancel()

    await run_loop()

    assert isinstance(first.error, Unavailable)

    append_message(accumulator)
    await run_loop()

    assert len(producer.batches) == 2
