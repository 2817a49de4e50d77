"""Touchpoint templates: JSON that many events share, rendered once.

The value of a touchpoint's message consists of three parts: the template of the client (source,
type of the call, client part of the context), the template of the page, and the event's own fields.
Each combination of client and page needs no template of its own.
"""

from collections import OrderedDict
from functools import lru_cache
from typing import Any

import msgspec

from libs.common.errors import InvalidMessage
from libs.common.kafka.wire.encoded_record import EncodedHeaders
from libs.common.messages import Touchpoint
from libs.common.messages.envelope import Headers, source_headers
from libs.common.messages.touchpoint import CallType
from services.ingest.domain.channel_rules import ChannelRules
from services.ingest.domain.context import (
    MAX_CACHED_BYTES,
    ClientContext,
    parse_client_context,
    parse_page,
)
from services.ingest.domain.deduplication_window import deduplication_key
from services.ingest.domain.normalise import address_member, normalise
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import TrackingCall

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of client templates with keys and overhead: about 10,000 clients."""
ENTRY_BYTES = 600
"""Overhead of an entry in memory, roughly."""
MAX_PAGES = 4_096
"""Page templates; each takes at most twice MAX_CACHED_BYTES, so all of them 10 MB."""
ClientKey = tuple[int, CallType, bytes, bytes]
"""Number of the source, type of the call, context of the batch, client part of the context."""
_VISITS = ("page", "screen")
_encode = msgspec.json.Encoder().encode


class OwnFields(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Fields of a touchpoint that no other event shares."""

    message_id: str
    occurred_at: int
    received_at: int
    name: str = ""
    user_id: str | None = None
    anonymous_id: str | None = None
    sent_at: int | None = None
    original_timestamp: int | None = None
    clock_corrected: bool = False
    properties: dict[str, Any] = {}


class _PageFields(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Fields of a touchpoint that all events of a page share."""

    channel: str = ""
    campaign: dict[str, str] = {}
    page_path: str = ""
    content_id: str = ""
    content_type: str = ""


_OTHER_FIELDS = frozenset((
    *OwnFields.__struct_fields__, *_PageFields.__struct_fields__,
    "context", "value", "currency", "sentiment", "effort",
))  # fmt: skip
"""Fields that are not the client's."""
_DEFAULTS = {
    field.name: field.default
    if field.default_factory is msgspec.NODEFAULT
    else field.default_factory()
    for field in msgspec.structs.fields(Touchpoint)
}


class ClientTemplate:
    """`json` is the beginning of a touchpoint, up to the members of its context if it is open."""

    def __init__(self, json: bytes, client: ClientContext, *, context_is_open: bool) -> None:
        self.json = json
        self.context_is_open = context_is_open
        self.channel = client.facts.channel
        self.has_address = isinstance(client.ip, str)


class SourceEncoding:
    """Constants of a source's messages; its `number` is unique to its settings."""

    def __init__(self, source: Source, number: int) -> None:
        self.source = source
        self.number = number
        self.deduplication_prefix = deduplication_key(source.workspace, source.name, "")
        self.key_prefix = f"{source.workspace}:"
        self.id_prefix = f"{source.name}:"
        self.headers: Headers = list(source_headers(Touchpoint.KIND, f"/ingest/{source.name}"))
        self.encoded_headers = EncodedHeaders(self.headers)


class TemplateCache:
    """LRU of client templates, bounded by bytes, shared by all sources and client addresses.

    All its requests must have the same normalisation rules.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._templates: OrderedDict[ClientKey, ClientTemplate | bool] = OrderedDict()
        """True for a client that was seen once, False for one that has no template."""
        self._sources: dict[tuple[str, str], SourceEncoding] = {}
        self._source_count = 0

    def source_encoding(self, source: Source) -> SourceEncoding:
        """Return the encoding of a source, a new one whenever its settings have changed."""
        name = source.workspace, source.name
        encoding = self._sources.get(name)
        if encoding is None or (encoding.source is not source and encoding.source != source):
            self._source_count += 1
            encoding = self._sources[name] = SourceEncoding(source, self._source_count)
        return encoding

    def client_template(self, key: ClientKey, received: RequestContext) -> ClientTemplate | None:
        """Return the template of a client; None where there is none, or not yet.

        A client gets one when it is seen again: rendering costs more than normalising one call.
        """
        template = self._templates.get(key)
        if template is None:
            if len(key[2]) + len(key[3]) <= MAX_CACHED_BYTES:
                self._put(key, True)
            return None
        self._templates.move_to_end(key)
        if template is True:
            template = render_client(key, received) or False
            self._put(key, template)
        return template if isinstance(template, ClientTemplate) else None

    def _put(self, key: ClientKey, template: ClientTemplate | bool) -> None:
        replaced = self._templates.pop(key, None)
        if replaced is not None:
            self.bytes -= _entry_size(key, replaced)
        self._templates[key] = template
        self.bytes += _entry_size(key, template)
        while self.bytes > self._max_bytes:
            self.bytes -= _entry_size(*self._templates.popitem(last=False))


def _entry_size(key: ClientKey, template: ClientTemplate | bool) -> int:
    json_size = len(template.json) if isinstance(template, ClientTemplate) else 0
    return ENTRY_BYTES + len(key[2]) + len(key[3]) + json_size


def render_client(key: ClientKey, received: RequestContext) -> ClientTemplate | None:
    """Return the template of a client; None where its calls have to be normalised one by one.

    Such a client's context is invalid, or has a link token, whose validity ends.
    """
    _, call_type, batch_context, client_json = key
    source, channels = received.source, received.rules.channels
    call = TrackingCall(
        type=call_type, message_id="-", user_id="-", event="-", context=msgspec.Raw(client_json)
    )
    try:
        touchpoint = normalise(call, received)
    except InvalidMessage:
        return None
    client = parse_client_context(channels, source.trust == "server", batch_context, client_json)
    if client.link_token is not None:
        return None
    shared = {
        name: value
        for name, value in msgspec.structs.asdict(touchpoint).items()
        if name not in _OTHER_FIELDS and value != _DEFAULTS[name]
    }
    members = client.members
    if isinstance(client.ip, str):
        members = b",".join(filter(None, (members, address_member(client.ip, received))))
    context = b',"context":{' + members if members else b""
    return ClientTemplate(_encode(shared)[:-1] + context, client, context_is_open=bool(members))


def page_template(
    channels: ChannelRules,
    client_channel: str,
    call_type: CallType,
    batch_context: bytes,
    page_json: bytes,
    *,
    context_is_open: bool,
) -> bytes:
    """Return the template of a page, with commas on both sides.

    It has the rest of the context and the fields of the page. It is empty for a page with a
    referral code, which becomes a property of each event.
    """
    cached = len(batch_context) + len(page_json) <= MAX_CACHED_BYTES
    render = _cached_page if cached else _render_page
    visit = call_type in _VISITS
    return render(channels, client_channel, visit, batch_context, page_json, context_is_open)


def _render_page(
    channels: ChannelRules,
    client_channel: str,
    visit: bool,
    batch_context: bytes,
    page_json: bytes,
    context_is_open: bool,
) -> bytes:
    page = parse_page(channels, batch_context, page_json)
    if page.referral:
        return b""
    facts = page.facts
    fields = _PageFields(
        client_channel or (facts.visit_channel if visit else facts.channel),
        facts.campaign,
        facts.page_path,
        facts.content_id,
        facts.content_type,
    )
    if context_is_open:
        context = b"%b%b}," % (b"," if page.members else b"", page.members)
    else:
        context = b',"context":{%b},' % page.members if page.members else b","
    encoded = _encode(fields)[1:-1]
    return context + encoded + b"," if encoded else context


_cached_page = lru_cache(MAX_PAGES)(_render_page)
