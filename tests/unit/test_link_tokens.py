"""The tokens of links say who somebody is: none gets past the door, wherever and however written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidMessage
from services.ingest.domain.privacy import strip_link_tokens
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object, parse_call
from services.ingest.handlers.outgoing_messages import dead_letter_message
from tests.support.encoding_paths import touchpoint_of_call, touchpoint_of_message

RECEIVED = RequestContext(Source("default", "web"), 1_780_000_000_000_000, lambda: "made-up")


def test_no_token_is_kept_however_deep_it_lies():
    address = "https://x.test/?a=1&pgt=TOKEN"
    message = {
        "type": "page", "userId": "u", "properties": {"seen": [{"url": address}]},
        "context": {"referrer": {"url": address}, "page": {"url": address, "referrer": address}},
    }  # fmt: skip
    assert "TOKEN" not in repr(touchpoint_of_call(call_from_object(message), RECEIVED))
    raw = json.dumps(message).replace("&", "\\u0026").encode()
    found = touchpoint_of_message(raw, RECEIVED)
    assert "TOKEN" not in repr(found)
    assert found.properties == {"seen": [{"url": "https://x.test/?a=1"}]}


def test_text_that_only_looks_like_a_token_breaks_nothing():
    raw = rb'{"type":"page","userId":"u","properties":{"url":"a\\u0026pgt=x","b":"\\\\"}}'
    found = touchpoint_of_message(raw, RECEIVED)
    assert found.properties == {"url": "a\\u0026", "b": "\\\\"}


@given(
    st.recursive(
        st.text('pgt=?&;\\\\"%3Du0026 x'),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=8,
    )
)
def test_json_without_tokens_is_json(value):
    json.loads(strip_link_tokens(json.dumps(value).encode()))


@pytest.mark.parametrize("beside", ["1", "[" + "[]," * 25 + "1]"], ids=["flat", "many parts"])
@pytest.mark.parametrize(
    "link", [r"https://x/?p\u0067t=TOK", r"https://x/?pgt\u003dTOK", r"https://x/?a=1\u0026pgt=TOK"]
)
def test_no_token_hides_behind_escapes(link, beside):
    raw = f'{{"type":"track","event":"E","userId":"u","x":{beside},"properties":{{"url":"{link}"}}}}'.encode()
    assert "TOK" not in touchpoint_of_message(raw, RECEIVED).properties["url"]


@pytest.mark.parametrize(
    "link",
    [
        "https://x/?pgt=TOK", "https://x/?a=1&pgt=TOK&b=2", "https://x/#pgt=TOK", "https://x/?pgt=T%2EOK", "pgt=TOK",
        "https://x/?pgt=TOK&pgt=TOK&pgt=TOK", "https://x/?pgt=pgt=TOK", "https://x/?pgt=%54OK%5FTOK",
        "https://r/?to=https%3A%2F%2Fx%3Fpgt%3DTOK%26b", "https://r/?to=https%3A%2F%2Fx%23pgt%3DTOK",
        "https://r/?to=https%253A%252F%252Fx%253Fpgt%253DTOK%252EOK%2526b", "https://r/?json=%7B%22search%22%3A%22pgt%3DTOK%22%7D",
    ],
)  # fmt: skip
@pytest.mark.parametrize("levels", range(3))
def test_neither_a_touchpoint_nor_a_letter_keeps_a_token_be_it_in_json_in_json(link, levels):
    text = link
    for _ in range(levels):
        text = json.dumps({"url": text}).replace("&", "\\u0026").replace("=", "\\u003d")
    raw = json.dumps(
        {"type": "track", "event": "E", "userId": "u", "properties": {"x": text}}
    ).encode()
    for written in (raw, raw.replace(rb"\\", rb"\u005c").replace(rb"\"", rb"\u0022")):
        letter = dead_letter_message(
            written, InvalidMessage("no_ids", f"what of ?{link}"), RECEIVED
        )
        about = dict(letter.headers)["x-dlq-error"].decode()
        for kept in (
            touchpoint_of_call(parse_call(written), RECEIVED).properties["x"],
            letter.value.decode(),
            about,
        ):
            assert "OK" not in kept


@pytest.mark.parametrize(
    ("mark", "equals"), [("%3F", "%3D"), ("%3Fa%3D1%26", "%3D"), ("%253F", "%253D")]
)
def test_what_is_behind_a_token_in_an_address_within_another_stays_with_the_outer_one(mark, equals):
    page = {"url": f"https://r.test/?to=https%3A%2F%2Fx{mark}pgt{equals}TOK&utm_source=newsletter"}
    made = touchpoint_of_call(
        call_from_object({"type": "page", "userId": "u", "context": {"page": page}}), RECEIVED
    )
    assert made.campaign["source"] == "newsletter"
    assert "TOK" not in made.context["page"]["url"]


def test_what_is_no_token_stays():
    said = {"url": "https://x/?PGT=1&pgtx=2&apgt=3", "text": "the pgt=3 of it", "p": "pgt"}
    assert (
        touchpoint_of_call(
            call_from_object({"type": "track", "event": "pgt", "userId": "u", "properties": said}),
            RECEIVED,
        ).properties
        == said
    )
