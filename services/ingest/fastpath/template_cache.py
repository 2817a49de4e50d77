"""What touchpoints say beside what is their own, written once for all of a source, a kind and a context: their frames.

A frame is made by `normalise`, of a call that says next to nothing else. There is none for a context that says whom a call is
about, or adds to its properties: such calls are normalised one by one.
"""

import msgspec

from libs.common.errors import InvalidMessage
from libs.common.messages import Touchpoint
from services.ingest.domain.context import CACHE_SIZE, MAX_CACHED_BYTES, parse_context
from services.ingest.domain.normalise import normalise
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import TrackingCall
from services.ingest.fastpath.record_writer import RecordWriter

_KINDS = {b"track": "track", b"page": "page", b"screen": "screen"}
_OWN = frozenset((
    "message_id", "occurred_at", "received_at", "name", "user_id", "anonymous_id", "sent_at", "original_timestamp",
    "clock_corrected", "properties", "value", "currency", "sentiment", "effort",
))  # fmt: skip
_DEFAULTS = {
    field.name: field.default
    if field.default_factory is msgspec.NODEFAULT
    else field.default_factory()
    for field in msgspec.structs.fields(Touchpoint)
}
_MET = 4 * CACHE_SIZE


class TouchpointTemplates:
    """The frames of one source's calls that came in the same way, by kind and context; each is JSON without its last brace."""

    def __init__(
        self, store: "TemplateCache", place: int, received: RequestContext, records: RecordWriter
    ) -> None:
        self.records = records
        self.source = received.source
        self._place = place
        self._store = store
        self._received = received
        self.known: dict[tuple[bytes, bytes], bytes] = {}

    def add_template(self, kind: bytes, context: bytes) -> bytes:
        """Return the frame of a context that is not known; empty for one that was not met before, or has none."""
        if (
            kind not in _KINDS
            or len(context) > MAX_CACHED_BYTES
            or not self._store.was_seen_before(hash((self._place, kind, context)))
        ):
            return b""
        found = self.known[kind, context] = render_template(_KINDS[kind], context, self._received)
        return found


class TemplateCache:
    """All frames of a door, so many and no more."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str, bytes, str], TouchpointTemplates] = {}
        self._records: dict[tuple[str, str], RecordWriter] = {}
        """One for each source: it keeps room for the largest touchpoint that it wrote."""
        self._met: set[int] = set()
        self._count = 0

    def templates_for(self, received: RequestContext) -> TouchpointTemplates | None:
        """Return the frames for a request, or None where the source itself has a say in each of its calls."""
        source = received.source
        if (
            source.user_hash_secret is not None
            or source.defaults
            or len(received.batch_defaults.context) > MAX_CACHED_BYTES
        ):
            return None
        client = received.client if received.rules.ip != "drop" and source.trust == "public" else ""
        place = source.workspace, source.name, received.batch_defaults.context, client
        found = self._sources.get(place)
        if found is None or not _same(found.source, source):
            found = self._sources[place] = TouchpointTemplates(
                self, hash(place), received, self._records_of(source)
            )
            self._add()
        return found

    def _records_of(self, source: Source) -> RecordWriter:
        found = self._records.get((source.workspace, source.name))
        if found is None:
            found = self._records[source.workspace, source.name] = RecordWriter(
                source.workspace, source.name
            )
        return found

    def was_seen_before(self, known: int) -> bool:
        """Return whether what has this hash was met before, so that to keep its frame may be worth it."""
        if known not in self._met:
            if len(self._met) >= _MET:
                self._met.clear()
            self._met.add(known)
            return False
        self._add()
        return True

    def _add(self) -> None:
        self._count += 1
        if self._count > CACHE_SIZE:
            self._sources.clear()
            self._records.clear()
            self._count = 0


def _same(one: Source, other: Source) -> bool:
    return one is other or one == other


def render_template(kind: str, context: bytes, received: RequestContext) -> bytes:
    """Return the frame; empty where a call with this context has to be normalised by itself."""
    call = TrackingCall(
        type=kind, message_id="-", user_id="-", event="-", context=msgspec.Raw(context)
    )
    try:
        touchpoint = normalise(call, received)
    except InvalidMessage:
        return b""
    rules, source = received.rules, received.source
    said = parse_context(
        rules.channels, source.trust == "server", received.batch_defaults.context, context
    )
    if said.link_token is not None or said.traits or said.group_id is not None or said.referral:
        return b""
    shared = {
        name: value
        for name, value in msgspec.structs.asdict(touchpoint).items()
        if name not in _OWN
    }
    shared = {name: value for name, value in shared.items() if value != _DEFAULTS[name]}
    return msgspec.json.encode(shared)[:-1]
