"""Cache of touchpoint templates: shared by addresses and pages, bounded by bytes."""

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.source import Source
from services.ingest.fastpath.encoder import FastEncoder
from services.ingest.fastpath.template_cache import (
    ENTRY_BYTES,
    TemplateCache,
    _cached_page,
    _entry_size,
)
from tests.support.encoding_paths import WarmTemplateCache, touchpoint_of_message
from tests.support.tracking_calls import PAGE, PLAIN, WEB


def test_a_client_gets_a_template_when_seen_again():
    templates, raw = TemplateCache(), json.dumps(PLAIN).encode()

    outcomes = [FastEncoder(WEB, templates).encode(raw) is not None for _ in range(3)]

    assert outcomes == [False, True, True]


def test_client_addresses_share_a_template():
    templates, raw = TemplateCache(), json.dumps(PLAIN).encode()
    other = msgspec.structs.replace(WEB, client="198.51.100.1")

    outcomes = [FastEncoder(each, templates).encode(raw) is not None for each in (WEB, WEB, other)]

    assert outcomes == [False, True, True]


def test_pages_share_a_template_of_their_client():
    encoder = FastEncoder(WEB, TemplateCache())
    pages = [{**PAGE, "title": f"{n}", "path": f"/{n}"} for n in range(4)]

    outcomes = [
        encoder.encode(json.dumps({**PLAIN, "context": {"page": page}}).encode()) is not None
        for page in pages
    ]

    assert outcomes == [False, True, True, True]


def test_a_changed_source_gets_new_templates():
    templates, raw = WarmTemplateCache(), json.dumps(PLAIN).encode()
    changed = msgspec.structs.replace(WEB, source=Source("default", "web", mode="test"))

    numbers = [
        templates.source_encoding(Source("default", "web")).number,
        templates.source_encoding(Source("default", "web")).number,
        templates.source_encoding(changed.source).number,
    ]

    assert numbers[0] == numbers[1] != numbers[2]
    assert touchpoint_of_message(raw, WEB, templates).mode == "live"
    assert touchpoint_of_message(raw, changed, templates).mode == "test"


def seen(templates, name):
    """Return whether the cache has a client, by a look-up that adds it otherwise."""
    return templates.client_template((1, "track", b"", b'{"n":"%b"}' % name), WEB) is not None


def test_the_least_recently_used_client_is_evicted():
    templates = TemplateCache(3 * ENTRY_BYTES + 600)
    for name in (b"a", b"b", b"c", b"a", b"b", b"c", b"a"):
        seen(templates, name)

    seen(templates, b"d")

    assert [
        (1, "track", b"", b'{"n":"%b"}' % name) in templates._templates
        for name in (b"a", b"b", b"d")
    ] == [True, False, True]


@given(st.lists(st.integers(0, 9), max_size=40))
def test_templates_never_exceed_their_bytes(names):
    templates = TemplateCache(3_000)

    for name in names:
        seen(templates, b"%d" % name)
        assert templates.bytes <= 3_000

    assert templates.bytes == sum(
        map(_entry_size, templates._templates, templates._templates.values())
    )


def test_a_long_context_takes_no_room_in_the_cache():
    templates = WarmTemplateCache()
    pages = _cached_page.cache_info().currsize
    context = {"page": {"title": "x" * 2_000}, "long": "y" * 2_000}

    touchpoint_of_message(json.dumps({**PLAIN, "context": context}).encode(), WEB, templates)

    assert (templates.bytes, _cached_page.cache_info().currsize) == (0, pages)


def test_a_refused_context_is_refused_again():
    templates = TemplateCache()
    raw = json.dumps({**PLAIN, "context": {"consent": {"categoryPreferences": 3}}}).encode()

    for _ in range(3):
        assert touchpoint_of_message(raw, WEB, templates) is None
