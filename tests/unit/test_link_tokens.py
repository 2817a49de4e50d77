"""Link tokens, which identify a contact, are removed from touchpoints and dead letters."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidMessage
from libs.common.ids import WorkspaceId
from services.ingest.domain.privacy import strip_link_tokens
from services.ingest.domain.request_context import RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object, parse_call
from services.ingest.handlers.outgoing_messages import dead_letter_message
from tests.support.encoding_paths import touchpoint_of_call, touchpoint_of_message

CONTEXT = RequestContext(
    Source(WorkspaceId("default"), "web"), 1_780_000_000_000_000, lambda: "generated"
)


def test_nested_tokens_are_removed():
    address = "https://x.test/?a=1&pgt=TOKEN"
    message = {
        "type": "page",
        "userId": "u",
        "properties": {"seen": [{"url": address}]},
        "context": {"referrer": {"url": address}, "page": {"url": address, "referrer": address}},
    }

    assert "TOKEN" not in repr(touchpoint_of_call(call_from_object(message), CONTEXT))

    raw = json.dumps(message).replace("&", "\\u0026").encode()
    touchpoint = touchpoint_of_message(raw, CONTEXT)

    assert "TOKEN" not in repr(touchpoint)
    assert touchpoint.properties == {"seen": [{"url": "https://x.test/?a=1"}]}


def test_escaped_backslashes_stay_valid():
    raw = rb'{"type":"page","userId":"u","properties":{"url":"a\\u0026pgt=x","b":"\\\\"}}'

    touchpoint = touchpoint_of_message(raw, CONTEXT)

    assert touchpoint.properties == {"url": "a\\u0026", "b": "\\\\"}


@given(
    st.recursive(
        st.text('pgt=?&;\\\\"%3Du0026 x'),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=8,
    )
)
def test_stripped_json_stays_valid(value):
    json.loads(strip_link_tokens(json.dumps(value).encode()))


@pytest.mark.parametrize("other_value", ["1", "[" + "[]," * 25 + "1]"], ids=["flat", "many parts"])
@pytest.mark.parametrize(
    "link", [r"https://x/?p\u0067t=TOK", r"https://x/?pgt\u003dTOK", r"https://x/?a=1\u0026pgt=TOK"]
)
def test_escaped_token_is_removed(link, other_value):
    raw = (
        f'{{"type":"track","event":"E","userId":"u","x":{other_value},'
        f'"properties":{{"url":"{link}"}}}}'
    ).encode()

    assert "TOK" not in touchpoint_of_message(raw, CONTEXT).properties["url"]


@pytest.mark.parametrize(
    "link",
    [
        "https://x/?pgt=TOK",
        "https://x/?a=1&pgt=TOK&b=2",
        "https://x/#pgt=TOK",
        "https://x/?pgt=T%2EOK",
        "pgt=TOK",
        "https://x/?pgt=TOK&pgt=TOK&pgt=TOK",
        "https://x/?pgt=pgt=TOK",
        "https://x/?pgt=%54OK%5FTOK",
        "https://r/?to=https%3A%2F%2Fx%3Fpgt%3DTOK%26b",
        "https://r/?to=https%3A%2F%2Fx%23pgt%3DTOK",
        "https://r/?to=https%253A%252F%252Fx%253Fpgt%253DTOK%252EOK%2526b",
        "https://r/?json=%7B%22search%22%3A%22pgt%3DTOK%22%7D",
    ],
)
@pytest.mark.parametrize("levels", range(3))
def test_touchpoint_and_dead_letter_have_no_token(link, levels):
    text = link
    for _ in range(levels):
        text = json.dumps({"url": text}).replace("&", "\\u0026").replace("=", "\\u003d")

    raw = json.dumps(
        {"type": "track", "event": "E", "userId": "u", "properties": {"x": text}}
    ).encode()

    for message in (raw, raw.replace(rb"\\", rb"\u005c").replace(rb"\"", rb"\u0022")):
        dead_letter = dead_letter_message(
            message, InvalidMessage("no_ids", f"no ids in ?{link}"), CONTEXT
        )
        error_header = dict(dead_letter.headers)["x-dlq-error"].decode()
        for stored_text in (
            touchpoint_of_call(parse_call(message), CONTEXT).properties["x"],
            dead_letter.value.decode(),
            error_header,
        ):
            assert "OK" not in stored_text


@pytest.mark.parametrize(
    ("question_mark", "equals"), [("%3F", "%3D"), ("%3Fa%3D1%26", "%3D"), ("%253F", "%253D")]
)
def test_parameters_after_nested_token_are_kept(question_mark, equals):
    target = f"https%3A%2F%2Fx{question_mark}pgt{equals}TOK"
    page = {"url": f"https://r.test/?to={target}&utm_source=newsletter"}

    touchpoint = touchpoint_of_call(
        call_from_object({"type": "page", "userId": "u", "context": {"page": page}}), CONTEXT
    )

    assert touchpoint.campaign["source"] == "newsletter"
    assert "TOK" not in touchpoint.context["page"]["url"]


def test_similar_parameters_are_kept():
    properties = {"url": "https://x/?PGT=1&pgtx=2&apgt=3", "text": "the pgt=3 of it", "p": "pgt"}

    assert (
        touchpoint_of_call(
            call_from_object(
                {"type": "track", "event": "pgt", "userId": "u", "properties": properties}
            ),
            CONTEXT,
        ).properties
        == properties
    )
