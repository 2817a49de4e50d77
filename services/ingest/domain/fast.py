"""Plain calls of a request, written as touchpoints from their own bytes: the fast way for what nearly every message is.

All that a call's context, source and request say has been written before, once, by the way that takes everything (`normalise`):
its *frame*. Behind it comes what is the call's own. tests/unit/test_fast.py holds the two ways to the same touchpoints.

Written for mypyc, as the fold is; uncompiled it is not used, since it is slower than the other way.
"""

from typing import Final

import msgspec
from librt.strings import BytesWriter
from mypy_extensions import i64

from libs.common.errors import InvalidMessage
from libs.common.messages import Message, Touchpoint
from libs.common.messages.envelope import TRACE, origin_of, second_of
from services.ingest.domain.call import object_of
from services.ingest.domain.classify import worth
from services.ingest.domain.frames import Frames
from services.ingest.domain.instant_bytes import NEVER
from services.ingest.domain.plain import Plain, name_of, plain
from services.ingest.domain.received import Received
from services.ingest.domain.recent import MessageId, place_of
from services.ingest.domain.timing import when_sent

_SECOND: Final = 1_000_000


class Fast:
    """Reads the calls of one request; `take` returns None for each that is for `normalise`."""

    def __init__(self, received: Received, frames: Frames) -> None:
        source, sent_at = received.source, when_sent(received.said.sent_at)
        self._new_id = received.new_id
        self._frames = frames
        self._known: dict[tuple[bytes, bytes], bytes] = frames.known
        self._default = (received.call_type or "").encode()
        self._received_at: i64 = received.received_at
        self._came = b',"received_at":%d' % received.received_at
        self._sent_at: i64 = NEVER if sent_at is None else sent_at
        self._workspace: str = source.workspace
        self._source: str = source.name
        self._key = f"{source.workspace}:".encode()
        self._id = f"{source.name}:".encode()
        self._origin: list[tuple[str, bytes]] = list(origin_of(Touchpoint.KIND, f"/ingest/{source.name}"))
        self._trace: bytes | None = received.trace

    def take(self, raw: bytes) -> tuple[MessageId, Message] | None:
        """Return the message of a call, and what it is known by."""
        call = plain(raw)
        if call is None or not (call.user_id or call.anonymous_id):
            return None
        kind = call.kind or self._default
        frame = self._known.get((kind, call.context))
        if frame is None:
            frame = self._frames.learn(kind, call.context)
        name = name_of(call, kind)
        if not frame or name is None:
            return None
        about = _worth(call.properties) if call.worth else b""
        if about is None:
            return None
        message_id = call.message_id or self._new_id().encode()
        writer = BytesWriter()
        writer.write(frame)
        writer.write(self._came)
        occurred_at = self._write_times(writer, call)
        if occurred_at < 0:
            return None
        _write_text(writer, b',"message_id":"', message_id)
        _write_text(writer, b',"name":"', name)
        _write_text(writer, b',"user_id":"', call.user_id)
        _write_text(writer, b',"anonymous_id":"', call.anonymous_id)
        if call.properties:
            writer.write(b',"properties":')
            writer.write(call.properties)
        writer.write(about)
        writer.write(b"}")
        key = self._key + (call.user_id or call.anonymous_id)
        message = Message(Touchpoint.TOPIC, key, writer.getvalue(), self._headers(message_id, occurred_at))
        return place_of(self._workspace, self._source, message_id.decode()), message

    def _write_times(self, writer: BytesWriter, call: Plain) -> i64:
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

    def _headers(self, message_id: bytes, occurred_at: i64) -> list[tuple[str, bytes]]:
        """Return an envelope's headers, as `compose` does."""
        fraction = str(_SECOND + occurred_at % _SECOND).encode()
        found = self._origin.copy()
        found.append(("ce_id", self._id + message_id))
        found.append(("ce_time", second_of(occurred_at // _SECOND) + b"." + fraction[1:] + b"Z"))
        if self._trace is not None:
            found.append((TRACE, self._trace))
        return found


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
        found = msgspec.json.encode(worth(object_of("properties", properties)))
    except InvalidMessage:
        return None
    return b"" if found == b"{}" else b"," + found[1:-1]
