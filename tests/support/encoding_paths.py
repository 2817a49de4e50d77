"""Touchpoints of messages, by the fast and the general path."""

import msgspec

from libs.common.messages import Touchpoint, decode_value
from libs.common.messages.envelope import Headers
from services.ingest.domain.deduplication_window import MessageId
from services.ingest.domain.normalise import normalise
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.tracking_call import TrackingCall
from services.ingest.fastpath.template_cache import TemplateCache
from services.ingest.handlers.message_reader import FastPath, tracking_reader
from services.ingest.handlers.outgoing_messages import touchpoint_message

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class WarmTemplateCache(TemplateCache):
    """Template cache that has each template from the first call."""

    def client_template(self, *arguments):
        super().client_template(*arguments)
        return super().client_template(*arguments)


def touchpoint_of_call(call: TrackingCall, received: RequestContext) -> Touchpoint:
    """Return the touchpoint of a call, decoded from its message. Raises InvalidMessage."""
    return decode_value(Touchpoint, touchpoint_message(normalise(call, received)).value)


def read_message(
    raw: bytes, received: RequestContext, templates: TemplateCache | None
) -> tuple[MessageId, bytes, Headers, dict[str, bytes]] | None:
    """Return deduplication key, Kafka key, headers and encoded fields; None if refused."""
    reader = tracking_reader(received, FastPath(templates) if templates else None)
    assert reader.read_slice([raw], 0) == 1
    if reader.refused:
        return None
    ((message_id, message),) = reader.touchpoints.items()
    fields = {name: bytes(json) for name, json in _members.decode(message.value or b"").items()}
    assert fields.keys() <= set(Touchpoint.__struct_fields__)
    assert not {b'""', b"{}", b"null"} & set(fields.values()), "defaults are omitted"
    return message_id, message.key, message.headers, fields


def touchpoint_of_message(
    raw: bytes, received: RequestContext, templates: TemplateCache | None = None
) -> Touchpoint | None:
    """Return the touchpoint of a message, None if refused; both paths give the same bytes."""
    general = read_message(raw, received, None)
    assert read_message(raw, received, templates or WarmTemplateCache()) == general
    if general is None:
        return None
    value = b"{%b}" % b",".join(b'"%b":%b' % (k.encode(), v) for k, v in general[-1].items())
    return decode_value(Touchpoint, value)
