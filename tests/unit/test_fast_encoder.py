"""Plain calls are read by their frames, to the same touchpoints as by the way that takes everything; nearly every call is one."""

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.request_context import BatchDefaults, NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.fastpath import template_cache
from services.ingest.fastpath.encoder import FastEncoder
from services.ingest.fastpath.parser import MAX_BYTES, parse_plain_call
from services.ingest.fastpath.template_cache import TemplateCache
from services.ingest.settings import CHANNELS
from tests.support.encoding_paths import WarmTemplateCache, touchpoint_of_message
from tests.support.json_values import VALUES

NOW = 1_780_000_000_000_000
RULES = NormalisationRules(
    parse_channel_rules(CHANNELS.read_text(), "channels.yaml"), ip="truncate"
)
WEB = RequestContext(
    Source("default", "web"), NOW, lambda: "made-up", "track", rules=RULES, client="203.0.113.9"
)
CRM = msgspec.structs.replace(
    WEB, source=Source("w", "crm", trust="server", mode="historical"), trace=b"00-1-2-01"
)
PAGE = {
    "url": "https://shop.test/p?utm_source=mail&utm_medium=email",
    "referrer": "https://www.google.com/",
    "path": "/p",
}
PLAIN = {
    "type": "track",
    "event": "Añadido",
    "messageId": "m-1",
    "userId": "u-1",
    "anonymousId": "a-1",
    "timestamp": "2026-05-28T20:26:39.250Z",
    "properties": {
        "id": "p-1",
        "price": 19.9,
        "tags": ["a", {"b": None}],
        "total": 40,
        "currency": "eur",
        "said": 'a "b"\n',
    },
    "context": {
        "page": PAGE,
        "locale": "es",
        "userAgent": "Mozilla/5.0 Chrome/130",
        "ip": "198.51.100.7",
    },
    "integrations": {"All": True},
}


def taken(message, received=WEB):
    """Return what is read of a message by its frame, or None."""
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    shared = WarmTemplateCache().templates_for(received)
    return shared and FastEncoder(received, shared).encode(raw)


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
        {"context": []},
        {"properties": {}},
    ],
    ids=lambda changes: ",".join(changes) or "as it is",
)
def test_what_nearly_every_call_is_is_read_by_its_frame(changes, received):
    message = {**PLAIN, **changes}
    assert taken(message, received) is not None
    spaced = json.dumps(message, ensure_ascii=False, indent=1).replace("{}", "{ \t}").encode()
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
        {"userId": 'u"1'},
        {"userId": None, "anonymousId": None},
        {"timestamp": "1969-12-31T23:59:59Z"},
        {"timestamp": "2026-05-28 20:26"},
        {"timestamp": 1},
        {"traits": {"email": "A@x.test"}},
        {"properties": []},
        {"properties": {"content_id": "c"}},
        {"properties": {"n": 1 << 60}},
        {"properties": {"n": float("inf")}},
        {"properties": {"a": "\0"}},
        {"properties": {"a": "\ud800"}},
        {"properties": {"a": "?pgt=TOKEN"}},
        {"properties": {"a": "?p\\u0067t=TOKEN"}},
        {"type": "page", "properties": {"name": 3}},
        {"context": {"linkToken": "t"}},
        {"context": {"traits": {"email": "a@x.test"}}},
        {"context": {"groupId": "g"}},
        {"context": {"page": {"url": "https://x.test/?pgr=abc"}}},
        {"context": {"x": "y" * 2_000}},
        {"properties": {"x": "y" * MAX_BYTES}},
    ],
    ids=repr,
)
def test_what_needs_a_look_is_read_by_the_other_way(changes):
    raw = json.dumps({**PLAIN, **changes}).encode().replace(b"\\\\u0067", b"\\u0067")
    assert taken(raw) is None
    touchpoint_of_message(raw, WEB)


@pytest.mark.parametrize("field", [{"user_hash_secret": "s"}, {"defaults": {"shop": "a"}}])
def test_a_source_that_has_a_say_in_each_call_has_no_frames(field):
    received = msgspec.structs.replace(WEB, source=Source("default", "web", **field))
    assert TemplateCache().templates_for(received) is None
    touchpoint_of_message(json.dumps(PLAIN).encode(), received)


FIELDS = st.sampled_from(
    [*PLAIN, "name", "sentAt", "originalTimestamp", "traits", "groupId", "userHash", "writeKey"]
)
TELLING = st.sampled_from(
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
    st.dictionaries(TELLING, VALUES, max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_both_ways_say_the_same(changes, properties, ascii_only, server):
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
    rb"\u0000", b"\0", b"\xff", b"\xc3", rb"\ud800", rb"\ud83d\ude00", b"1e400", b"1e2", b"-0", b"-", b"01", b"1.", b".5", b"NaN",
    b"Infinity", b"nulL", b"tru", b"18446744073709551616",
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b'{"a":' * 8,
    b"\\", b"\\q", rb"\u00", rb"p\u0067t=T", b"pgt=T", b"\n", b"\t", b" ", b"\x0b", b'"userId":"other",', b'"na\\u006de":"x",',
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
def test_whatever_stands_in_its_bytes_both_ways_say_the_same(edits):
    raw = json.dumps(PLAIN).encode()
    for at, length, piece in edits:
        raw = raw[:at] + piece + raw[at + length :]
    touchpoint_of_message(raw, WEB)


def test_a_context_is_learnt_when_it_is_met_again():
    store, raw = TemplateCache(), json.dumps(PLAIN).encode()
    assert [
        FastEncoder(WEB, store.templates_for(WEB)).encode(raw) is not None for _ in range(3)
    ] == [False, True, True]
    other = msgspec.structs.replace(WEB, client="198.51.100.1")
    assert [
        FastEncoder(other, store.templates_for(other)).encode(raw) is not None for _ in range(2)
    ] == [False, True]


def test_a_source_has_one_writer_of_records_however_many_visitors():
    store = TemplateCache()
    visitors = [
        store.templates_for(msgspec.structs.replace(WEB, client=f"198.51.{n}.1")) for n in range(9)
    ]
    assert len({id(one) for one in visitors}) == 9
    assert len({id(one.records) for one in visitors}) == 1
    assert store.templates_for(CRM).records is not visitors[0].records


def test_frames_are_forgotten_when_the_source_changes_or_there_are_too_many(monkeypatch):
    store = WarmTemplateCache()
    learnt = store.templates_for(WEB)
    assert store.templates_for(WEB) is learnt
    assert (
        store.templates_for(msgspec.structs.replace(WEB, source=Source("default", "web"))) is learnt
    )
    assert (
        store.templates_for(
            msgspec.structs.replace(WEB, source=Source("default", "web", mode="test"))
        )
        is not learnt
    )
    assert store.templates_for(msgspec.structs.replace(WEB, client="198.51.100.1")) is not learnt
    monkeypatch.setattr(template_cache, "CACHE_SIZE", 10)
    for number in range(50):
        store.templates_for(WEB).add_template(b"page", b'{"n":%d}' % number)
        assert sum(1 + len(one.known) for one in store._sources.values()) <= 11


def test_a_context_that_is_refused_has_no_frame_and_is_refused_again():
    raw = json.dumps({**PLAIN, "context": {"consent": {"categoryPreferences": 3}}}).encode()
    assert touchpoint_of_message(raw, WEB) is None
    assert parse_plain_call(raw) is not None
