"""Plain calls of a request, written as touchpoints from their own bytes: the fast way for what nearly every message is.

All that a call's context, source and request say has been written before, once, by the way that takes everything (`normalise`):
its *frame*. Behind it comes what is the call's own. tests/unit/test_fast_encoder.py holds the two ways to the same touchpoints.

Written for mypyc, as the fold is; uncompiled it is not used, since it is slower than the other way.
"""

import msgspec
from librt.strings import BytesWriter
from mypy_extensions import i64

from libs.common.errors import InvalidMessage
from libs.common.kafka.wire.encoded_record import AnyMessage, EncodedRecord
from services.ingest.domain.deduplication_window import MessageId, deduplication_key, key_with_id
from services.ingest.domain.enrichment import extract_valuation
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.timestamps import parse_sent_at
from services.ingest.domain.tracking_call import parse_object
from services.ingest.fastpath.instant_scanner import NEVER
from services.ingest.fastpath.parser import PlainCallFields, event_name, parse_plain_call
from services.ingest.fastpath.record_writer import RecordWriter, trace_header
from services.ingest.fastpath.template_cache import TouchpointTemplates


class FastEncoder:
    """Reads the calls of one request; `take` returns None for each that is for `normalise`."""

    def __init__(self, received: RequestContext, frames: TouchpointTemplates) -> None:
        source, sent_at = received.source, parse_sent_at(received.batch_defaults.sent_at)
        self._new_id = received.new_id
        self._frames = frames
        self._known: dict[tuple[bytes, bytes], bytes] = frames.known
        self._default = (received.call_type or "").encode()
        self._received_at: i64 = received.received_at
        self._came = b',"received_at":%d' % received.received_at
        self._sent_at: i64 = NEVER if sent_at is None else sent_at
        self._place = deduplication_key(source.workspace, source.name, "")
        self._records: RecordWriter = frames.records
        self._trace = trace_header(received.trace)
        self._value = BytesWriter()

    def encode_messages(
        self,
        messages: list[bytes],
        at: i64,
        room: i64,
        each: i64,
        found: dict[MessageId, AnyMessage],
    ) -> tuple[i64, i64]:
        """Read calls from a place on, as long as there is room (bytes), up to one that is for `normalise`.

        Each takes so many bytes of the room, and its own. Returns where it stopped and the room that is left. What is found twice
        is kept as it was said first.
        """
        count: i64 = len(messages)
        while at < count and room > 0:
            raw = messages[at]
            one = self.encode(raw)
            if one is None:
                break
            found.setdefault(one[0], one[1])
            room -= each + len(raw)
            at += 1
        return at, room

    def encode(self, raw: bytes) -> tuple[MessageId, EncodedRecord] | None:
        """Return the message of a call, and what it is known by."""
        call = parse_plain_call(raw)
        if call is None or not (call.user_id or call.anonymous_id):
            return None
        kind = call.kind or self._default
        frame = self._known.get((kind, call.context))
        if frame is None:
            frame = self._frames.add_template(kind, call.context)
        name = event_name(call, kind)
        if not frame or name is None:
            return None
        about = _worth(call.properties) if call.worth else b""
        if about is None:
            return None
        message_id = call.message_id or self._new_id().encode()
        value = self._value
        value.truncate(0)
        value.write(frame)
        value.write(self._came)
        occurred_at = self._write_times(value, call)
        if occurred_at < 0:
            return None
        _write_text(value, b',"message_id":"', message_id)
        _write_text(value, b',"name":"', name)
        _write_text(value, b',"user_id":"', call.user_id)
        _write_text(value, b',"anonymous_id":"', call.anonymous_id)
        if call.properties:
            value.write(b',"properties":')
            value.write(call.properties)
        value.write(about)
        value.write(b"}")
        who = call.user_id or call.anonymous_id
        message = self._records.write_record(
            who, value.getvalue(), message_id, occurred_at, self._trace
        )
        return key_with_id(self._place, message_id), message

    def _write_times(self, writer: BytesWriter, call: PlainCallFields) -> i64:
        """Write when a call occurred, by the rule of `timing`, and return it; before 1970 is negative, and for the other way."""
        original = call.original if call.timestamp == NEVER else call.timestamp
        sent_at = self._sent_at if call.sent_at == NEVER else call.sent_at
        occurred_at = self._received_at
        if original != NEVER:
            occurred_at = original if sent_at == NEVER else self._received_at - (sent_at - original)
            if occurred_at > self._received_at:
                occurred_at = self._received_at
                writer.write(b',"clock_corrected":true')
            if sent_at != NEVER:
                _write_number(writer, b',"sent_at":', sent_at)
            if original != occurred_at:
                _write_number(writer, b',"original_timestamp":', original)
        _write_number(writer, b',"occurred_at":', occurred_at)
        return occurred_at


def _write_text(writer: BytesWriter, name: bytes, text: bytes) -> None:
    if text:
        writer.write(name)
        writer.write(text)
        writer.append(34)


def _write_number(writer: BytesWriter, name: bytes, number: i64) -> None:
    writer.write(name)
    writer.write(str(number).encode())


def _worth(properties: bytes) -> bytes | None:
    """Return what properties say of worth, to stand in a touchpoint; None for what others take for no object."""
    try:
        found = msgspec.json.encode(extract_valuation(parse_object("properties", properties)))
    except InvalidMessage:
        return None
    return b"" if found == b"{}" else b"," + found[1:-1]
