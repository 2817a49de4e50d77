"""Plain calls encoded as Kafka messages from templates, without a touchpoint in between.

The result is that of `normalise`; tests/unit/test_fast_encoder.py compares the two paths.
"""

from typing import cast

import msgspec

from libs.common.errors import InvalidMessage
from libs.common.kafka.wire.encoded_record import AnyMessage, encode_fields
from libs.common.messages import Message, Touchpoint
from libs.common.messages.envelope import event_headers
from libs.common.messages.touchpoint import CallType
from services.ingest.domain.context import split_members
from services.ingest.domain.deduplication_window import MessageId, key_with_id
from services.ingest.domain.enrichment import (
    CONTENT_PROPERTIES,
    VALUATION_PROPERTIES,
    extract_valuation,
)
from services.ingest.domain.normalise import address_member, event_name
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.timestamps import resolve_event_time
from services.ingest.fastpath.plain_call import PlainCall, parse_plain_call
from services.ingest.fastpath.template_cache import OwnFields, TemplateCache, page_template

_TYPES = frozenset(("track", "page", "screen"))
_encode = msgspec.json.Encoder().encode


class FastEncoder:
    """Encodes the messages of one request."""

    def __init__(
        self, received: RequestContext, templates: TemplateCache, *, wire_encoding: bool = True
    ) -> None:
        self._received = received
        self._templates = templates
        self._wire_encoding = wire_encoding
        self._source = templates.source_encoding(received.source)
        self._address = address_member(None, received)

    def encode(self, raw: bytes) -> tuple[MessageId, AnyMessage] | None:
        """Return the deduplication key and the Kafka message of a message.

        Returns None for a message that has to go through `normalise`. An invalid one does so too,
        and is refused there with its reason.
        """
        call = parse_plain_call(raw)
        if call is None:
            return None
        try:
            return self._encode(call)
        except InvalidMessage:
            return None

    def _encode(self, call: PlainCall) -> tuple[MessageId, AnyMessage] | None:
        received = self._received
        call_type = cast("CallType", call.type or received.call_type)
        identifier = call.anonymous_id or call.user_id
        properties = call.properties or {}
        if (
            call_type not in _TYPES
            or not identifier
            or not CONTENT_PROPERTIES.isdisjoint(properties)
        ):
            return None
        shared = self._shared_json(call, call_type)
        if shared is None:
            return None
        time = resolve_event_time(
            call.timestamp or call.original_timestamp,
            call.sent_at or received.batch_defaults.sent_at,
            received.received_at,
        )
        message_id = call.message_id or received.new_id()
        own = OwnFields(
            message_id=message_id,
            occurred_at=time.occurred_at,
            received_at=received.received_at,
            name=event_name(call_type, call.event, call.name, properties),
            user_id=call.user_id or None,
            anonymous_id=call.anonymous_id or None,
            sent_at=time.sent_at,
            original_timestamp=time.original if time.original != time.occurred_at else None,
            clock_corrected=time.corrected,
            properties=properties,
        )
        value = shared + _encode(own)[1:]
        if not VALUATION_PROPERTIES.isdisjoint(properties):
            valuation = _encode(extract_valuation(properties))
            value = value[:-1] + b"," + valuation[1:] if valuation != b"{}" else value
        message = self._message(identifier, value, message_id, time.occurred_at)
        return key_with_id(self._source.deduplication_prefix, message_id.encode()), message

    def _shared_json(self, call: PlainCall, call_type: CallType) -> bytes | None:
        """Return a touchpoint's JSON up to its own fields; None without templates."""
        received = self._received
        batch_context = received.batch_defaults.context
        client_json, page_json = split_members(call.context or {})
        key = self._source.number, call_type, batch_context, client_json
        client = self._templates.client_template(key, received)
        if client is None:
            return None
        address = b"" if client.has_address else self._address
        page = page_template(
            received.rules.channels,
            client.channel,
            call_type,
            batch_context,
            page_json,
            context_is_open=client.context_is_open or address != b"",
        )
        if not page:
            return None
        if not address:
            return client.json + page
        before = b"," if client.context_is_open else b',"context":{'
        return b"".join((client.json, before, address, page))

    def _message(
        self, identifier: str, value: bytes, message_id: str, occurred_at: int
    ) -> AnyMessage:
        source = self._source
        key = f"{source.key_prefix}{identifier}".encode()
        trace = self._received.trace
        headers = event_headers(f"{source.id_prefix}{message_id}", occurred_at, trace=trace)
        if not self._wire_encoding:
            return Message(Touchpoint.TOPIC, key, value, [*source.headers, *headers])
        return encode_fields(Touchpoint.TOPIC, key, value, source.encoded_headers, headers)
