"""Touchpoint templates: JSON that many events share, rendered once.

The value of a touchpoint's message consists of three parts: the template of the client (source,
type of the call, client part of the context), the template of the page, and the event's own fields.
Each combination of client and page needs no template of its own.
"""

from collections import OrderedDict
from typing import Any, Generic, TypeVar

import msgspec

from libs.common.errors import InvalidMessage
from libs.common.messages import Touchpoint
from libs.common.messages.touchpoint import CallType
from services.ingest.domain.context import MAX_CACHED_BYTES, ClientContext, parse_client, parse_page
from services.ingest.domain.normalise import address_member, event_channel, normalise
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import TrackingCall

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of each of the two caches with keys and overhead: about 10,000 entries."""
ENTRY_BYTES = 600
"""Overhead of an entry in memory, roughly."""
T = TypeVar("T")
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
        self.client = client
        self.context_is_open = context_is_open
        self.channel = client.facts.channel
        self.has_address = isinstance(client.ip, str)


class ByteBoundedLru(Generic[T]):
    """LRU cache bounded by bytes, those of its keys included."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[Any, ...], tuple[T, int]] = OrderedDict()

    def get(self, key: tuple[Any, ...]) -> T | None:
        """Return an entry and make it the most recently used."""
        try:
            self._entries.move_to_end(key)
        except KeyError:
            return None
        return self._entries[key][0]

    def put(self, key: tuple[Any, ...], value: T, size: int) -> None:
        """Add or replace an entry of so many bytes; the least recently used ones are evicted."""
        _, size_before = self._entries.pop(key, (None, 0))
        size += ENTRY_BYTES + sum(len(part) for part in key if isinstance(part, bytes | str))
        self._entries[key] = value, size
        self.bytes += size - size_before
        while self.bytes > self._max_bytes:
            self.bytes -= self._entries.popitem(last=False)[1][1]


class TemplateCache:
    """Templates of all sources, shared by all client addresses."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._clients: ByteBoundedLru[ClientTemplate | bool] = ByteBoundedLru(max_bytes)
        """True for a client that was seen once, False for one that has no template."""
        self._pages: ByteBoundedLru[bytes] = ByteBoundedLru(max_bytes)
        self._sources: dict[tuple[str, str], tuple[Source, int]] = {}
        self._source_count = 0

    def source_number(self, source: Source) -> int:
        """Return the number of a source, a new one whenever the source has changed."""
        name = source.workspace, source.name
        known, number = self._sources.get(name, (None, 0))
        if known is source:
            return number
        if known != source:
            number = self._source_count = self._source_count + 1
        self._sources[name] = source, number
        return number

    def client_template(
        self, source_number: int, call_type: CallType, client_json: bytes, received: RequestContext
    ) -> ClientTemplate | None:
        """Return the template of a client; None where there is none, or not yet.

        A client gets one when it is seen again: rendering costs more than normalising one call.
        """
        batch_context = received.batch_defaults.context
        key = source_number, call_type, batch_context, client_json
        template = self._clients.get(key)
        if isinstance(template, ClientTemplate):
            return template
        if template is False or len(batch_context) + len(client_json) > MAX_CACHED_BYTES:
            return None
        if template is None:
            self._clients.put(key, True, 0)
            return None
        rendered = render_client(call_type, client_json, received)
        self._clients.put(key, rendered or False, 2 * len(rendered.json) if rendered else 0)
        return rendered

    def page_template(
        self,
        client: ClientTemplate,
        call_type: CallType,
        page_json: bytes,
        received: RequestContext,
        *,
        context_is_open: bool,
    ) -> bytes:
        """Return the template of a page, with commas on both sides; empty if it has none."""
        batch_context = received.batch_defaults.context
        key = context_is_open, call_type == "track", client.channel, batch_context, page_json
        rendered = self._pages.get(key)
        if rendered is None:
            rendered = render_page(client.client, call_type, page_json, context_is_open, received)
            if len(batch_context) + len(page_json) <= MAX_CACHED_BYTES:
                self._pages.put(key, rendered, len(rendered))
        return rendered


def render_client(
    call_type: CallType, client_json: bytes, received: RequestContext
) -> ClientTemplate | None:
    """Return the template of a client; None where its calls have to be normalised one by one.

    Such a client's context is invalid, or has a link token, whose validity ends.
    """
    source, channels = received.source, received.rules.channels
    call = TrackingCall(
        type=call_type, message_id="-", user_id="-", event="-", context=msgspec.Raw(client_json)
    )
    try:
        touchpoint = normalise(call, received)
    except InvalidMessage:
        return None
    client = parse_client(
        channels, source.trust == "server", received.batch_defaults.context, client_json
    )
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


def render_page(
    client: ClientContext,
    call_type: CallType,
    page_json: bytes,
    context_is_open: bool,
    received: RequestContext,
) -> bytes:
    """Return the template of a page: the rest of the context, and the fields of the page.

    It is empty for a page with a referral code, which becomes a property of each event.
    """
    page = parse_page(received.rules.channels, received.batch_defaults.context, page_json)
    if page.referral:
        return b""
    fields = _PageFields(
        event_channel(call_type, client, page),
        page.facts.campaign,
        page.facts.page_path,
        page.facts.content_id,
        page.facts.content_type,
    )
    if context_is_open:
        context = b"%b%b}," % (b"," if page.members else b"", page.members)
    else:
        context = b',"context":{%b},' % page.members if page.members else b","
    encoded = _encode(fields)[1:-1]
    return context + encoded + b"," if encoded else context
