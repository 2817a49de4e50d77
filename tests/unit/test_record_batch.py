"""Records and batches as aiokafka writes and reads them."""

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from libs.common.kafka.wire.encoded_record import encode_record
from libs.common.kafka.wire.record_batch import MIN_COMPRESSED_BYTES, RecordBatch
from libs.common.messages import Message

HEADERS = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=70)), max_size=4)
MESSAGES = st.builds(
    Message, st.just("t"), st.binary(max_size=70), st.none() | st.binary(max_size=9_000), HEADERS
)  # fmt: skip


def batch_of(messages, *, compressed=False, most=1 << 20):
    batch = RecordBatch(most, compressed=compressed)
    sizes = [batch.add(encode_record(message).record) for message in messages]
    return batch, sizes


def read(built):
    """Return a batch as aiokafka reads it: its number of records, producer and sequence, and its records."""
    records = MemoryRecords(bytes(built))
    batch = records.next_batch()
    assert batch.validate_crc()
    assert not records.has_next()
    state = batch.producer_id, batch.producer_epoch, batch.base_sequence, batch.next_offset
    return state, [(one.offset, one.key, one.value, list(one.headers)) for one in batch]


@given(MESSAGES)
def test_a_message_is_read_as_it_was_before_it_was_write(message):
    found = encode_record(message)
    assert Message(found.topic, found.key, found.value, found.headers) == message


@given(st.lists(MESSAGES, min_size=1, max_size=5), st.booleans())
def test_a_batch_is_what_aiokafka_builds_of_the_same(messages, compressed):
    batch, sizes = batch_of(messages, compressed=compressed)
    theirs = BatchBuilder(1 << 20, 0)
    at = [
        theirs.append(timestamp=None, key=one.key, value=one.value, headers=one.headers).size
        for one in messages
    ]
    assert sizes == at
    for builder in (batch, theirs):
        builder._set_producer_state(7, 3, 99)
    assert batch.record_count() == len(messages)
    assert read(batch._build()) == read(theirs._build())
    assert batch._build() is batch._build(), "what is sent again is the same"


def test_a_batch_of_many_records_is_read_in_order():
    messages = [Message("t", b"k", b"%d" % number, []) for number in range(20_000)]
    batch, _ = batch_of(messages)
    _, records = read(batch._build())
    assert [(offset, value) for offset, _, value, _ in records] == [
        (n, b"%d" % n) for n in range(20_000)
    ]


def test_large_batches_are_compressed_small_ones_are_not():
    for count, compressed in ((1, False), (10, True)):
        messages = [Message("t", b"k", b"x" * (MIN_COMPRESSED_BYTES // 8), [])] * count
        size = len(batch_of(messages, compressed=True)[0]._build())
        assert (size < count * MIN_COMPRESSED_BYTES // 8) == compressed
        assert len(batch_of(messages)[0]._build()) > count * MIN_COMPRESSED_BYTES // 8


def test_a_full_batch_takes_no_more_and_a_first_record_always_has_room():
    large, small = Message("t", b"k", b"x" * 300, []), Message("t", b"k", b"x", [])
    batch, sizes = batch_of([large, large, small, large, small], most=640)
    assert [size > 0 for size in sizes] == [True, True, True, False, False], (
        "order: nothing goes in behind what did not"
    )
    assert batch.closed()
    assert len(batch._build()) == 61 + sum(sizes)
    assert batch_of([large], most=1)[1][0] > 300


@pytest.mark.parametrize("length", [0, 1, 63, 64, 8_191, 8_192, 1_048_575, 1_048_576])
def test_lengths_on_both_sides_of_another_byte(length):
    message = Message("t", b"k" * length, b"v" * length, [("h", b"x" * length)])
    found = encode_record(message)
    assert Message(found.topic, found.key, found.value, found.headers) == message
    batch, (size,) = batch_of([message])
    assert read(batch._build())[1] == [(0, message.key, message.value, message.headers)]
    assert (
        size
        == BatchBuilder(1 << 24, 0)
        .append(timestamp=None, key=message.key, value=message.value, headers=message.headers)
        .size
    )
