"""What strangers put into traits, tokens and templates."""

import base64
import time

import pytest

from libs.common.errors import InvalidMessage
from services.orchestrator.channels.email import EmailChannel, build_email
from services.orchestrator.domain.action import ActionSpec
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.domain.message_template import render_template
from services.orchestrator.domain.rendered_message import RenderedMessage, render_action
from services.orchestrator.domain.unsubscribe_token import sign_token, verify_token
from tests.unit.orchestrator.vocabulary import contact

BREAKS = [
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
INJECTIONS = [f"Hello{line}{header}" for line in BREAKS for header in HEADERS]
RUN = Enrollment("e", "default", "c", "test", 1, "cause", 0)
ACTION = ActionSpec(
    action="a",
    channel="email",
    mail={"subject": "Hi {{ contact.name }}", "text": "{{ contact.name }}"},
)
SECRET = "secret-of-16-chars"


def lines_of(message):
    """The header lines as they would go over the wire."""
    return message.as_bytes().split(b"\n\n", 1)[0].split(b"\n")


@pytest.mark.parametrize("name", INJECTIONS)
async def test_a_trait_cannot_add_a_header(name):
    assert len(INJECTIONS) >= 50
    letter = render_action(
        "act",
        ACTION,
        RUN,
        contact(traits={"name": name, "email": "a@x.test"}),
        None,
        None,
        MessageLinks("https://x.test", SECRET),
    )
    try:
        message = build_email(letter, "hello@x.test")
    except ValueError:
        assert (
            await EmailChannel("smtp://127.0.0.1:1", "hello@x.test").send(letter)
        ).outcome == "refused"
        return
    known = {b"From", b"To", b"Subject", b"Date", b"Message-ID", b"List-Unsubscribe", b"List-Unsubscribe-Post",
             b"Content-Type", b"Content-Transfer-Encoding", b"MIME-Version"}  # fmt: skip
    names = {
        line.split(b":")[0] for line in lines_of(message) if not line.startswith((b" ", b"\t"))
    }
    assert names <= known
    assert message["To"] == "a@x.test"


@pytest.mark.parametrize(
    "address", [f"a@x.test{line}{header}" for line in BREAKS[:6] for header in HEADERS[:2]]
)
def test_an_address_cannot_either(address):
    with pytest.raises(ValueError):
        build_email(
            RenderedMessage("act", address, "s", "t", None, "https://x.test/u/t"), "hello@x.test"
        )


def test_a_token_cannot_be_forged_swapped_or_stretched():
    token = sign_token(SECRET, "c1", "email")
    assert verify_token(SECRET, token) == ("c1", "email")
    assert verify_token(SECRET, token) == ("c1", "email"), "a mail is read whenever it is read"
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    other = base64.urlsafe_b64decode(sign_token(SECRET, "c2", "email") + "==")
    for bit in range(len(raw) * 8):
        broken = bytearray(raw)
        broken[bit // 8] ^= 1 << bit % 8
        assert (
            verify_token(SECRET, base64.urlsafe_b64encode(bytes(broken)).decode().rstrip("="))
            is None
        )
    swapped = b"c2" + raw[2:]
    assert verify_token(SECRET, base64.urlsafe_b64encode(swapped).decode()) is None
    assert verify_token(SECRET, base64.urlsafe_b64encode(raw[:-20] + other[-20:]).decode()) is None
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
    "{% for a in (1..1000) %}{% assign b = b | append: 'xxxxxxxxxxxxxxxxxxxxxxxx' %}{{ b }}{% endfor %}",
    "{{ (1..99999999) | join: ',' }}",
    "{% include 'a' %}", "{% render 'a' %}",
    "{% assign r = (1..99999999) %}{{ r | join: ',' }}",
    "{% assign a = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' %}{{ a" + " | replace: 'x', a" * 6 + " }}",
    "{{ 'x' " + "| append: 'xxxxxxxxxxxxxxxx' | replace: 'x', 'xxxxxxxxxxxxxxxx' " * 8 + "}}",
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_a_template_bomb_ends_soon_and_says_so(bomb):
    begun = time.process_time()
    with pytest.raises(InvalidMessage, match="template"):
        render_template(bomb, {"b": ""})
    assert time.process_time() - begun < 5, "a bound on what it may cost, not a measure of speed"


def test_a_trait_is_data_and_no_template():
    assert (
        render_template("{{ contact.name }}", {"contact": {"name": "{{ secret }}{% for %}"}})
        == "{{ secret }}{% for %}"
    )
    assert "<script>" not in render_template(
        "{{ contact.name }}", {"contact": {"name": "<script>"}}, html=True
    )
