"""How records gather by partition, on a producer that answers when it is told to."""

import asyncio

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from libs.common.errors import Unavailable
from libs.common.kafka import accumulator as module
from libs.common.kafka.accumulator import Accumulator
from libs.common.messages import Message
from libs.common.partitioner import partition_for_key


class Producer:
    """Takes batches, and acknowledges them by hand."""

    def __init__(self):
        self.batches = []
        self.fault = None

    async def partitions_for(self, topic):
        return {0, 1}

    async def send_batch(self, builder, topic, *, partition):
        if self.fault is not None:
            raise self.fault
        answer = asyncio.get_running_loop().create_future()
        self.batches.append((topic, partition, builder.record_count(), answer))
        return answer


@pytest.fixture
def producer():
    return Producer()


@pytest.fixture(params=[True, False], ids=["wire encoding", "aiokafka batches"])
async def found(request, producer, monkeypatch):
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 1_000)
    accumulator = Accumulator(producer, 0, wire_encoding=request.param)
    await accumulator.load_topic("t")
    yield accumulator
    await accumulator.close()


KEYS = [next(b"%d" % n for n in range(99) if partition_for_key(b"%d" % n, 2) == p) for p in (0, 1)]


def put(accumulator, partition=0, size=10, seconds=60.0):
    message = Message("t", KEYS[partition], b"x" * size, [])
    return accumulator.append([message], asyncio.get_running_loop().time() + seconds)[0]


async def turn():
    for _ in range(5):
        await asyncio.sleep(0)
    await asyncio.sleep(0.002)


async def test_what_comes_while_a_batch_is_under_way_is_one_batch(producer, found):
    first = put(found)
    await turn()
    later = [put(found) for _ in range(5)]
    await turn()
    assert [batch[2] for batch in producer.batches] == [1]
    producer.batches[0][3].set_result(None)
    await turn()
    assert first.completed
    assert not later[0].completed
    assert [batch[2] for batch in producer.batches] == [1, 5]
    assert len({id(group) for group in later}) == 1
    producer.batches[1][3].set_result(None)
    await turn()
    assert later[0].completed
    assert found._bytes == 0


async def test_partitions_do_not_wait_for_each_other(producer, found):
    put(found, 0)
    put(found, 1)
    await turn()
    assert sorted(batch[1] for batch in producer.batches) == [0, 1]
    producer.batches[1][3].set_result(None)
    other = producer.batches[1][1]
    put(found, other)
    await turn()
    assert [batch[1] for batch in producer.batches].count(other) == 2


async def test_a_full_group_is_followed_by_another_in_order(producer, found):
    groups = [put(found, size=300) for _ in range(7)]
    await turn()
    while not groups[-1].completed:
        producer.batches[-1][3].set_result(None)
        await turn()
    assert [batch[2] for batch in producer.batches] == [3, 3, 1]


async def test_a_fault_is_told_to_all_of_the_group_and_the_next_go_on(producer, found):
    first = put(found)
    await turn()
    second = put(found)
    producer.batches[0][3].set_exception(MessageSizeTooLargeError())
    await turn()
    assert isinstance(first.error, MessageSizeTooLargeError)
    producer.batches[1][3].set_result(None)
    await turn()
    assert second.error is None


async def test_a_fault_that_nobody_knows_blocks_nothing(producer, found):
    first = put(found)
    producer.fault = ZeroDivisionError("a bug in a library")
    await turn()
    producer.fault = None
    assert isinstance(first.error, ZeroDivisionError)
    put(found)
    await turn()
    assert len(producer.batches) == 1


async def test_what_nobody_waits_for_any_more_is_told_so_and_not_sent(producer, found):
    put(found)
    await turn()
    late = put(found, seconds=0.01)
    await asyncio.wait_for(late.acknowledgement(), 5)
    assert isinstance(late.error, Unavailable)
    after = put(found)
    assert after is not late
    producer.batches[0][3].set_result(None)
    await turn()
    assert [batch[2] for batch in producer.batches] == [1, 1]
    producer.batches[1][3].set_result(None)
    await turn()
    assert (after.error, after.completed, found._bytes) == (None, True, 0)


async def test_what_is_under_way_at_its_deadline_is_told_once(producer, found):
    group = put(found, seconds=0.01)
    await turn()
    await asyncio.wait_for(group.acknowledgement(), 5)
    assert isinstance(group.error, Unavailable)
    assert found._bytes > 10, "it is still under way, headers and all"
    producer.batches[0][3].set_result(None)
    await turn()
    assert (isinstance(group.error, Unavailable), found._bytes) == (True, 0)


async def test_there_is_an_end_to_what_may_wait(producer, found, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 25)
    put(found)
    put(found)
    refused = put(found)
    assert isinstance(refused, Unavailable)
    assert "bytes wait" in str(refused)
    await turn()
    producer.batches[0][3].set_result(None)
    await turn()
    assert isinstance(put(found), module.PendingBatch)


async def test_what_waits_when_the_producer_is_replaced_is_told_so(producer, found):
    sent, waiting = put(found), None
    await turn()
    waiting = put(found)
    await found.close()
    assert isinstance(sent.error, Unavailable)
    assert isinstance(waiting.error, Unavailable)


async def test_draining_waits_for_all_that_is_under_way(producer, found):
    group = put(found)
    await turn()
    asyncio.get_running_loop().call_later(0.05, producer.batches[0][3].set_result, None)
    await found.drain(5)
    assert group.completed


async def test_a_delivery_that_is_cancelled_blocks_nothing(producer, found):
    first = put(found)
    await turn()
    producer.batches[0][3].cancel()
    await turn()
    assert isinstance(first.error, Unavailable)
    put(found)
    await turn()
    assert len(producer.batches) == 2
