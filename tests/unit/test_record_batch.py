"""Encoded records and batches equal those of aiokafka."""

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
)


def batch_of(messages, *, compressed=False, max_bytes=1 << 20):
    batch = RecordBatch(max_bytes, compressed=compressed)
    sizes = [batch.add(encode_record(message).record) for message in messages]
    return batch, sizes


def read_with_aiokafka(encoded):
    """Return a batch as aiokafka reads it: (producer id, epoch, sequence, next offset), records."""
    records = MemoryRecords(bytes(encoded))
    batch = records.next_batch()
    assert batch.validate_crc()
    assert not records.has_next()
    state = batch.producer_id, batch.producer_epoch, batch.base_sequence, batch.next_offset
    return state, [(r.offset, r.key, r.value, list(r.headers)) for r in batch]


@given(MESSAGES)
def test_encoded_record_decodes_to_its_message(message):
    record = encode_record(message)

    assert Message(record.topic, record.key, record.value, record.headers) == message


@given(st.lists(MESSAGES, min_size=1, max_size=5), st.booleans())
def test_batch_equals_that_of_aiokafka(messages, compressed):
    batch, sizes = batch_of(messages, compressed=compressed)
    reference = BatchBuilder(1 << 20, 0)
    reference_sizes = [
        reference.append(timestamp=None, key=m.key, value=m.value, headers=m.headers).size
        for m in messages
    ]

    assert sizes == reference_sizes

    for builder in (batch, reference):
        builder._set_producer_state(7, 3, 99)

    assert batch.record_count() == len(messages)
    assert read_with_aiokafka(batch._build()) == read_with_aiokafka(reference._build())
    assert batch._build() is batch._build(), "a retry sends the same bytes"


def test_large_batch_keeps_record_order():
    messages = [Message("t", b"k", b"%d" % number, []) for number in range(20_000)]
    batch, _ = batch_of(messages)

    _, records = read_with_aiokafka(batch._build())

    assert [(offset, value) for offset, _, value, _ in records] == [
        (n, b"%d" % n) for n in range(20_000)
    ]


def test_only_large_batches_are_compressed():
    for count, compressed in ((1, False), (10, True)):
        messages = [Message("t", b"k", b"x" * (MIN_COMPRESSED_BYTES // 8), [])] * count
        size = len(batch_of(messages, compressed=True)[0]._build())
        assert (size < count * MIN_COMPRESSED_BYTES // 8) == compressed
        assert len(batch_of(messages)[0]._build()) > count * MIN_COMPRESSED_BYTES // 8


def test_full_batch_refuses_records_but_first_always_fits():
    large, small = Message("t", b"k", b"x" * 300, []), Message("t", b"k", b"x", [])

    batch, sizes = batch_of([large, large, small, large, small], max_bytes=640)

    assert [size > 0 for size in sizes] == [True, True, True, False, False], (
        "a full batch refuses smaller records too, for their order"
    )
    assert batch.closed()
    assert len(batch._build()) == 61 + sum(sizes)
    assert batch_of([large], max_bytes=1)[1][0] > 300


@pytest.mark.parametrize("length", [0, 1, 63, 64, 8_191, 8_192, 1_048_575, 1_048_576])
def test_varint_length_boundaries(length):
    message = Message("t", b"k" * length, b"v" * length, [("h", b"x" * length)])

    record = encode_record(message)

    assert Message(record.topic, record.key, record.value, record.headers) == message

    batch, (size,) = batch_of([message])

    assert read_with_aiokafka(batch._build())[1] == [
        (0, message.key, message.value, message.headers)
    ]
    assert (
        size
        == BatchBuilder(1 << 24, 0)
        .append(timestamp=None, key=message.key, value=message.value, headers=message.headers)
        .size
    )
