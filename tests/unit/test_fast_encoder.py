"""Fast path: the same bytes as the general path, for nearly every call."""

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.kafka.wire.encoded_record import encode_record
from libs.common.messages import Message
from services.ingest.domain.privacy import strip_link_tokens
from services.ingest.domain.request_context import BatchDefaults
from services.ingest.domain.source import Source
from services.ingest.fastpath.encoder import FastEncoder
from services.ingest.fastpath.plain_call import MAX_BYTES
from services.ingest.fastpath.template_cache import TemplateCache
from services.ingest.handlers.message_reader import FastPath, tracking_reader
from tests.benchmarks.ingest_events import EventGenerator, InputKind
from tests.support.encoding_paths import WarmTemplateCache, touchpoint_of_message
from tests.support.json_values import VALUES
from tests.support.tracking_calls import CRM, PLAIN, RULES, WEB


def encode_fast(message, received=WEB):
    """Return what the fast path makes of a message, or None."""
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    return FastEncoder(received, WarmTemplateCache()).encode(raw)


@pytest.mark.parametrize("received", [WEB, CRM], ids=["web", "server"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"userId": None},
        {"anonymousId": ""},
        {"messageId": None},
        {
            "timestamp": None,
            "originalTimestamp": "2026-05-28T20:26:39Z",
            "sentAt": "2026-05-28T20:26:40.000001Z",
        },
        {"timestamp": "2027-01-01T00:00:00Z"},
        {"timestamp": None},
        {"type": "page", "event": None, "name": "Home"},
        {"type": "screen", "properties": {"name": "Start"}},
        {"type": "page", "properties": {"name": 3}},
        {"type": "page", "properties": None, "name": None, "context": None},
        {"type": None, "properties": {}, "context": {}},
        {"properties": {"value": "12.5", "sentiment": -2, "effort": 3, "currency": "nowhere"}},
        {
            "context": {
                "consent": {"categoryPreferences": {"ads": False}},
                "externalIds": [{"type": "crm", "id": 7}],
            }
        },
        {
            "context": {
                "mode": "test",
                "initiative": "brand",
                "channel": "sales",
                "evidence": "declared",
                "x": "é\\",
            }
        },
        {"messageId": "m" * 100},
        {"properties": {}},
        {"userId": 'u"1', "event": "a\tb"},
        {"properties": {"a": "\0"}},
        {"properties": {"a": "?pgt=TOKEN"}},
        {"properties": {"n": 1e300}},
        {"timestamp": "2026-05-28 20:26"},
        {"context": {"traits": {"email": "a@x.test"}, "groupId": "g"}},
    ],
    ids=lambda changes: ",".join(changes) or "unchanged",
)
def test_plain_calls_take_the_fast_path(changes, received):
    message = {**PLAIN, **changes}
    spaced = json.dumps(message, ensure_ascii=False, indent=1).replace("{}", "{ \t}").encode()

    assert encode_fast(message, received) is not None
    for raw in (json.dumps(message).encode(), spaced):
        assert touchpoint_of_message(raw, received) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "identify", "traits": {"email": "A@x.test"}},
        {"type": "group", "groupId": "g"},
        {"type": "alias", "previousId": "p"},
        {"type": "nothing"},
        {"event": ""},
        {"event": 3},
        {"userId": 7},
        {"userId": "u" * 513},
        {"userId": None, "anonymousId": None},
        {"timestamp": "1969-12-31T23:59:59Z"},
        {"timestamp": 1},
        {"traits": {"email": "A@x.test"}},
        {"properties": []},
        {"context": []},
        {"properties": {"content_id": "c"}},
        {"properties": {"n": 1 << 63}},
        {"properties": {"n": float("inf")}},
        {"context": {"linkToken": "t"}},
        {"context": {"page": {"url": "https://x.test/?pgr=abc"}}},
        {"context": {"x": "y" * 2_000}},
        {"properties": {"x": "y" * MAX_BYTES}},
    ],
    ids=repr,
)
def test_other_calls_take_the_general_path(changes):
    raw = json.dumps({**PLAIN, **changes}).encode()

    assert encode_fast(raw) is None
    touchpoint_of_message(raw, WEB)


@pytest.mark.parametrize("field", [{"user_hash_secret": "s"}, {"defaults": {"shop": "a"}}])
def test_sources_with_hash_or_defaults_take_the_general_path(field):
    received = msgspec.structs.replace(WEB, source=Source("default", "web", **field))

    assert tracking_reader(received, FastPath(TemplateCache()))._fast is None
    touchpoint_of_message(json.dumps(PLAIN).encode(), received)


FIELDS = st.sampled_from(
    [*PLAIN, "name", "sentAt", "originalTimestamp", "traits", "groupId", "userHash", "writeKey"]
)
VALUATION_OR_CONTENT = st.sampled_from(
    [
        "value",
        "revenue",
        "total",
        "currency",
        "sentiment",
        "effort",
        "content",
        "content_id",
        "name",
    ]
)


@given(
    st.dictionaries(FIELDS, VALUES, max_size=3),
    st.dictionaries(VALUATION_OR_CONTENT, VALUES, max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_both_paths_encode_the_same(changes, properties, ascii_only, server):
    message = {**PLAIN, "properties": {**PLAIN["properties"], **properties}, **changes}
    received = msgspec.structs.replace(
        CRM if server else WEB,
        batch_defaults=BatchDefaults("2026-05-28T20:26:40Z", b'{"locale":"en"}'),
    )
    try:
        raw = json.dumps(message, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        raw = json.dumps(message).encode()
    touchpoint_of_message(raw, received)


PIECES = (
    rb"\u0000", b"\0", b"\xff", b"\xc3", rb"\ud800", rb"\ud83d\ude00",
    b"1e400", b"1e2", b"-0", b"-", b"01", b"1.", b".5", b"NaN",
    b"Infinity", b"nulL", b"tru", b"18446744073709551616",
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b'{"a":' * 8,
    b"\\", b"\\q", rb"\u00", rb"p\u0067t=T", b"pgt=T", b"\n", b"\t", b" ", b"\x0b",
    b'"userId":"other",', b'"na\\u006de":"x",',
    b'"properties":{"value":3},', b'"traits":{"a":1},',
)  # fmt: skip


@given(
    st.lists(
        st.tuples(st.integers(0, 700), st.integers(0, 4), st.sampled_from(PIECES)),
        min_size=1,
        max_size=3,
    )
)
@example([(1, 0, b'"userId":"other",')])
def test_both_paths_encode_the_same_whatever_the_bytes(edits):
    raw = json.dumps(PLAIN).encode()
    for at, length, piece in edits:
        raw = raw[:at] + piece + raw[at + length :]
    touchpoint_of_message(raw, WEB)


SHARED = {"drop": TemplateCache(), "truncate": TemplateCache()}
"""One cache for all examples of an address rule: later ones use templates of earlier ones."""
URLS = st.sampled_from(
    (
        "https://shop.test/p/1", "https://shop.test/p/2?utm_source=mail&utm_medium=email",
        "https://shop.test/p?gclid=x", "https://shop.test/?pgr=code",
        "https://shop.test/?pgt=TOKEN&a=1", "", "no url", "https://x.test/\u00e9?a=\0",
    )
)  # fmt: skip
PAGES = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "url": URLS,
        "path": st.sampled_from(("/p", "", 7)),
        "referrer": URLS | st.just("https://www.google.com/"),
        "search": st.sampled_from(("", "?utm_campaign=a&utm_medium=cpc", "?fbclid=1")),
        "title": st.text(max_size=3),
    },
)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "page": PAGES | st.just([]),
        "referrer": st.just({"url": "https://www.bing.com/"}),
        "campaign": st.just({"source": "news", "name": "spring", "id": "x"}) | st.just({}),
        "content": st.just({"id": "c-1", "type": "article"}),
        "userAgent": st.sampled_from(("Mozilla/5.0 (iPhone) Mobile", "Googlebot/2.1", "")),
        "locale": st.sampled_from(("en-GB", "fr")),
        "channel": st.sampled_from(("email", "unknown")),
        "ip": st.sampled_from(("198.51.100.7", "no address", 7)),
        "consent": st.just({"categoryPreferences": {"ads": False}}),
        "traits": st.just({"email": "A@x.test", "email_verified": True}),
        "groupId": st.just("acme"),
        "linkToken": st.just("t"),
        "mode": st.just("test"),
        "machine": st.booleans(),
    },
)


@given(
    CONTEXTS,
    CONTEXTS,
    st.sampled_from(("track", "page", "screen")),
    st.booleans(),
    st.sampled_from(("", "203.0.113.9", "2001:db8::1")),
    st.sampled_from(("drop", "truncate")),
)
def test_both_paths_encode_any_page_client_and_batch_the_same(
    context, batch_context, call_type, server, client, ip_rule
):
    batch_json = json.dumps(batch_context).encode() if batch_context else b""
    received = msgspec.structs.replace(
        CRM if server else WEB,
        batch_defaults=BatchDefaults(None, strip_link_tokens(batch_json)),
        rules=msgspec.structs.replace(RULES, ip=ip_rule),
        client=client,
    )
    raw = json.dumps({**PLAIN, "type": call_type, "name": "n", "context": context}).encode()

    for _ in range(3):
        touchpoint_of_message(raw, received, SHARED[ip_rule])


@pytest.mark.parametrize("kind", InputKind)
def test_both_paths_encode_the_benchmarks_events_the_same(kind):
    generator, templates = EventGenerator(50, seed=7), TemplateCache()

    for _ in range(400):
        raw = json.dumps(generator.event(kind)).encode()
        assert touchpoint_of_message(raw, WEB, templates) is not None


def test_websites_take_the_fast_path():
    generator, templates = EventGenerator(50, seed=7), TemplateCache()
    encoder = FastEncoder(WEB, templates)

    encoded = [
        encoder.encode(json.dumps(generator.event(InputKind.WEBSITES)).encode()) for _ in range(400)
    ]

    assert sum(record is not None for record in encoded) > 360


def test_records_and_plain_messages_are_the_same():
    received = msgspec.structs.replace(WEB, trace=b"00-1-2-01")
    raw = json.dumps(PLAIN).encode()

    record, message = (
        FastEncoder(received, WarmTemplateCache(), wire_encoding=wire_encoding).encode(raw)
        for wire_encoding in (True, False)
    )

    assert isinstance(message[1], Message)
    assert encode_record(message[1]).record == record[1].record
    assert (message[0], message[1].key) == (record[0], record[1].key)
