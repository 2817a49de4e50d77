"""Hostile input in traits, unsubscribe tokens and templates is neutralised or refused."""

import base64
import time

import pytest

from libs.common.errors import InvalidMessage
from libs.common.ids import ContactId, WorkspaceId
from services.orchestrator.channels.email import EmailChannel, build_email
from services.orchestrator.domain.action_spec import ActionSpec
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.domain.message_template import render_template
from services.orchestrator.domain.rendered_message import RenderedMessage, render_action
from services.orchestrator.domain.unsubscribe_token import sign_token, verify_token
from tests.unit.orchestrator.builders import contact_facts

LINE_BREAKS = [
    "\r\n",
    "\n",
    "\r",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x85",
    "\u2028",
    "\u2029",
    "\n\r",
    "\r\n ",
]
HEADERS = ["Bcc: evil@x.test", "X-Evil: 1", "Content-Type: text/html", "\r\nDATA\r\nhello"]
INJECTIONS = [f"Hello{line}{header}" for line in LINE_BREAKS for header in HEADERS]
ENROLLMENT = Enrollment("e", WorkspaceId("default"), ContactId("c"), "test", 1, "cause", 0)
ACTION = ActionSpec(
    action="a",
    channel="email",
    mail={"subject": "Hi {{ contact.name }}", "text": "{{ contact.name }}"},
)
SECRET = "secret-of-16-chars"
HEADER_NAMES = {
    b"From",
    b"To",
    b"Subject",
    b"Date",
    b"Message-ID",
    b"List-Unsubscribe",
    b"List-Unsubscribe-Post",
    b"Content-Type",
    b"Content-Transfer-Encoding",
    b"MIME-Version",
}


def lines_of(message):
    """Return the header lines as sent over the wire."""
    return message.as_bytes().split(b"\n\n", 1)[0].split(b"\n")


@pytest.mark.parametrize("name", INJECTIONS)
async def test_trait_adds_no_mail_header(name):
    assert len(INJECTIONS) >= 50

    rendered = render_action(
        "act",
        ACTION,
        ENROLLMENT,
        contact_facts(traits={"name": name, "email": "a@x.test"}),
        None,
        None,
        MessageLinks("https://x.test", SECRET),
    )

    try:
        message = build_email(rendered, "hello@x.test")
    except ValueError:
        assert (
            await EmailChannel("smtp://127.0.0.1:1", "hello@x.test").send(rendered)
        ).outcome == "refused"
        return

    names = {
        line.split(b":")[0] for line in lines_of(message) if not line.startswith((b" ", b"\t"))
    }

    assert names <= HEADER_NAMES
    assert message["To"] == "a@x.test"


@pytest.mark.parametrize(
    "address", [f"a@x.test{line}{header}" for line in LINE_BREAKS[:6] for header in HEADERS[:2]]
)
def test_address_with_header_is_refused(address):
    with pytest.raises(ValueError):
        build_email(
            RenderedMessage("act", address, "s", "t", None, "https://x.test/u/t"), "hello@x.test"
        )


def test_altered_unsubscribe_token_is_invalid():
    token = sign_token(SECRET, "c1", "email")

    assert verify_token(SECRET, token) == ("c1", "email")

    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    other_raw = base64.urlsafe_b64decode(sign_token(SECRET, "c2", "email") + "==")

    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        assert (
            verify_token(SECRET, base64.urlsafe_b64encode(bytes(flipped)).decode().rstrip("="))
            is None
        )

    swapped = b"c2" + raw[2:]

    assert verify_token(SECRET, base64.urlsafe_b64encode(swapped).decode()) is None
    assert (
        verify_token(SECRET, base64.urlsafe_b64encode(raw[:-20] + other_raw[-20:]).decode()) is None
    )
    for text in (
        "",
        ".",
        "..",
        "a.b",
        "A" * 10_000,
        token[:-4],
        token + "AAAA",
        "%00",
        "\N{SNOWMAN}",
    ):
        assert verify_token(SECRET, text) is None


BOMBS = [
    "{% for a in (1..99999) %}{% for b in (1..99999) %}x{% endfor %}{% endfor %}",
    "{% for a in (1..999999999) %}{{ a }}{% endfor %}",
    "{% assign a = 'xxxxxxxxxx' %}" + "{% assign a = a | append: a | append: a %}" * 20 + "{{ a }}",
    "{% for a in (1..1000) %}{% assign b = b | append: 'xxxxxxxxxxxxxxxxxxxxxxxx' %}{{ b }}"
    "{% endfor %}",
    "{{ (1..99999999) | join: ',' }}",
    "{% include 'a' %}",
    "{% render 'a' %}",
    "{% assign r = (1..99999999) %}{{ r | join: ',' }}",
    "{% assign a = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' %}{{ a" + " | replace: 'x', a" * 6 + " }}",
    "{{ 'x' " + "| append: 'xxxxxxxxxxxxxxxx' | replace: 'x', 'xxxxxxxxxxxxxxxx' " * 8 + "}}",
]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_template_bomb_is_stopped_as_invalid_template(bomb):
    started = time.process_time()

    with pytest.raises(InvalidMessage, match="template"):
        render_template(bomb, {"b": ""})

    assert time.process_time() - started < 5, "an upper bound of the cost, not a measure of speed"


def test_trait_is_not_rendered_as_template():
    assert (
        render_template("{{ contact.name }}", {"contact": {"name": "{{ secret }}{% for %}"}})
        == "{{ secret }}{% for %}"
    )
    assert "<script>" not in render_template(
        "{{ contact.name }}", {"contact": {"name": "<script>"}}, html=True
    )
