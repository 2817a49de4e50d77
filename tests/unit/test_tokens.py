"""The tokens of links say who somebody is: none gets past the door, wherever it stands and however it is written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.batch import read
from services.ingest.domain.call import call_of, read_call
from services.ingest.domain.privacy import without_tokens
from services.ingest.domain.received import Received
from services.ingest.domain.source import Source
from tests.support.telling import as_read

RECEIVED = Received(Source("default", "web"), 1_780_000_000_000_000, lambda: "made-up")


def test_no_token_is_kept_however_deep_it_lies():
    address = "https://x.test/?a=1&pgt=TOKEN"
    message = {
        "type": "page", "userId": "u", "properties": {"seen": [{"url": address}]},
        "context": {"referrer": {"url": address}, "page": {"url": address, "referrer": address}},
    }  # fmt: skip
    assert "TOKEN" not in repr(as_read(call_of(message), RECEIVED))
    raw = json.dumps(message).replace("&", "\\u0026").encode()
    found = as_read(read_call(raw), RECEIVED)
    assert "TOKEN" not in repr(found)
    assert found.properties == {"seen": [{"url": "https://x.test/?a=1"}]}


def test_text_that_only_looks_like_a_token_breaks_nothing():
    raw = rb'{"type":"page","userId":"u","properties":{"url":"a\\u0026pgt=x","b":"\\\\"}}'
    found = as_read(read_call(raw), RECEIVED)
    assert found.properties["url"].startswith("a\\u0026")


@given(
    st.recursive(st.text('pgt=?&;\\\\"%3Du0026 x'), lambda c: st.lists(c) | st.dictionaries(st.text(), c), max_leaves=8)
)
def test_json_without_tokens_is_json(value):
    json.loads(without_tokens(json.dumps(value).encode()))


@pytest.mark.parametrize("beside", ["1", "[" + "[]," * 25 + "1]"], ids=["flat", "many parts"])
@pytest.mark.parametrize(
    "link", [r"https://x/?p\u0067t=TOK", r"https://x/?pgt\u003dTOK", r"https://x/?a=1\u0026pgt=TOK"]
)
def test_no_token_hides_behind_escapes(link, beside):
    raw = f'{{"type":"track","event":"E","userId":"u","x":{beside},"properties":{{"url":"{link}"}}}}'.encode()
    for call in (read_call(raw), *(read(raw, is_batch=False).calls or ())):
        assert "TOK" not in as_read(call, RECEIVED).properties["url"]
