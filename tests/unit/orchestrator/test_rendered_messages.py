"""What goes out: templates, tokens, mails."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli.home import PROJECT
from libs.common.conditions import parse_condition
from libs.common.documents import parse_document
from libs.common.errors import InvalidMessage
from services.orchestrator.channels.email import EmailChannel, build_email
from services.orchestrator.definition_files import read_contents, read_plays, read_segments
from services.orchestrator.domain.action import ActionSpec
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.destination import Destination
from services.orchestrator.domain.enrollment import Enrollment
from services.orchestrator.domain.message_links import MessageLinks
from services.orchestrator.domain.message_template import render_template
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.play_program import compile_play
from services.orchestrator.domain.rendered_message import RenderedMessage, render_action
from services.orchestrator.domain.unsubscribe_token import sign_token, verify_token
from services.orchestrator.webhooks.standard_webhooks import encode_secret
from tests.unit.orchestrator.vocabulary import contact


@given(st.text(alphabet="0123456789abcdef", min_size=1), st.sampled_from(["email", "webhook"]))
def test_a_token_opens_only_what_it_was_made_for(contact, channel):
    token = sign_token("secret-of-16-chars", contact, channel)
    assert verify_token("secret-of-16-chars", token) == (contact, channel)
    assert verify_token("another-of-16-chr", token) is None
    assert verify_token(
        "secret-of-16-chars", token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    ) in (
        None,
        (contact, channel),
    )


@given(st.text(max_size=60))
def test_rubbish_is_no_token(token):
    assert verify_token("secret-of-16-chars", token) is None


def test_templates_render_escape_and_refuse_blanks():
    assert render_template("Hi {{ contact.name }}", {"contact": {"name": "<Zoë>"}}) == "Hi <Zoë>"
    assert (
        render_template("Hi {{ contact.name }}", {"contact": {"name": "<Zoë>"}}, html=True)
        == "Hi &lt;Zoë&gt;"
    )
    with pytest.raises(InvalidMessage, match="template"):
        render_template("Hi {{ contact.name }}", {"contact": {}})
    with pytest.raises(InvalidMessage):
        render_template(
            "{% for a in (1..99999) %}{% for b in (1..99999) %}x{% endfor %}{% endfor %}", {}
        )


def letter(**fields):
    base = {
        "action_id": "act", "address": "a@x.test", "subject": "Hé", "text": "hello", "html": "<p>hello</p>",
        "unsubscribe_url": "https://x.test/u/token",
    }  # fmt: skip
    return RenderedMessage(**{**base, **fields})


def test_a_mail_has_both_parts_and_one_click_unsubscribe():
    mail = build_email(letter(), "Perigee <hello@x.test>")
    assert mail["List-Unsubscribe"] == "<https://x.test/u/token>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Message-ID"] == "<act@perigee>"
    assert [p.get_content_type() for p in mail.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    "fields",
    [
        {"address": "a@x.test\nBcc: b@x.test"},
        {"address": "a@x.test, b@x.test"},
        {"address": "nobody"},
        {"address": "a-@"},
        {"address": "(_):::@b"},
        {"address": "jörg@example.com"},
        {"address": "jo@exämple.de"},
        {"address": "@x.test"},
        {"address": ""},
        {"subject": "hi\r\nBcc: b@x.test"},
    ],
)
def test_no_header_can_be_smuggled_in(fields):
    with pytest.raises(ValueError):
        build_email(letter(**fields), "hello@x.test")


@given(st.text(max_size=40))
async def test_no_address_that_people_type_raises(address):
    """A channel never raises: the header parser has many kinds of errors for what a public form takes in."""
    result = await EmailChannel("smtp://127.0.0.1:1", "hello@x.test").send(letter(address=address))
    assert result.outcome in ("refused", "again")


SECRET = encode_secret(bytes(range(32)))
LINKS = MessageLinks("https://x.test", "secret-of-16-chars")
RUN = Enrollment("e", "default", "c", "test", 1, "cause", 0, {"properties": {"total": 42}})
ITEM = ContentItem(content="guide", type="guide", title="A guide", url="https://x.test/guide")


def test_a_letter_is_written_from_what_is_known():
    text = "{{ contact.name }} at {{ contact.cycles.engagement.stage }}: {{ event.properties.total }}, {{ content.title }}"
    action = ActionSpec(action="a", channel="email", mail={"subject": "Hi", "text": text})
    found = render_action(
        "id", action, RUN, contact(traits={"name": "Ada", "email": "a@x.test"}), ITEM, None, LINKS
    )
    assert (found.text, found.address) == ("Ada at lead: 42, A guide", "a@x.test")
    assert verify_token("secret-of-16-chars", found.unsubscribe_url.split("/u/")[1]) == (
        "c",
        "email",
    )


def test_what_is_missing_is_an_error_and_never_a_blank():
    action = ActionSpec(
        action="a", channel="email", mail={"subject": "Hi {{ contact.name }}", "text": "t"}
    )
    with pytest.raises(InvalidMessage, match="name"):
        render_action("id", action, RUN, contact(traits={"email": "a@x.test"}), None, None, LINKS)


def test_a_message_to_a_destination_says_who_and_why():
    place = Destination(
        destination="crm", channel="webhook", url="https://crm.test/hook", secret=SECRET
    )
    action = ActionSpec(
        action="a",
        channel="webhook",
        destination="crm",
        text="{{ contact.id }}",
        data={"n": "{{ event.properties.total }}"},
    )
    found = render_action(
        "id", action, RUN, contact(user_id="u", external_ids={"hubspot": "7"}), None, place, LINKS
    )
    assert found.address == place.url
    assert (found.data["fields"], found.data["text"], found.data["user_id"]) == (
        {"n": "42"},
        "c",
        "u",
    )


def test_every_shipped_action_can_be_written_to_somebody_of_whom_little_is_known():
    contents = [
        parse_document(ContentItem, text, name)
        for name, text in read_contents(PROJECT / "content").items()
    ]
    segments = {
        name: parse_condition(yaml.safe_load(text)["when"])
        for name, text in read_segments(PROJECT / "segments").items()
    }
    place = Destination(destination="sales", channel="webhook", url="https://crm.test/hook")
    events = ({"properties": {}}, {"from": "lead", "to": "prospect"})
    count = 0
    for name, text in read_plays(PROJECT / "plays").items():
        found = compile_play(parse_document(Play, text, name), 1, segments)
        event = events[found.play.trigger.stage_change is not None]
        for action in found.actions.values():
            facts = contact(traits={"email": "a@x.test"} if action.channel == "email" else {})
            run = Enrollment("e", "default", "c", name, 1, "cause", 0, event)
            for item in contents if action.content else [None]:
                letter = render_action(
                    "id",
                    action,
                    run,
                    facts,
                    item,
                    None if action.channel == "email" else place,
                    LINKS,
                )
                assert letter.text or action.audience
                if action.channel == "email" and action.purpose == "marketing":
                    assert letter.unsubscribe_url in letter.text, (
                        f"{name}.{action.action} says how to unsubscribe"
                    )
                count += 1
    assert count > 20


@pytest.mark.parametrize("secret", ["my-secret", "whsec_", "whsec_%%%", "whsec_" + "A" * 8])
def test_a_secret_that_cannot_sign_is_refused_where_it_is_defined(secret):
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        Destination(
            destination="crm", channel="webhook", url="https://crm.test/hook", secret=secret
        )


def test_a_name_pings_no_channel_of_slacks():
    place = Destination(destination="crm", channel="slack", url="https://hooks.test/x")
    action = ActionSpec(
        action="a", channel="slack", destination="crm", text="<https://x.test|{{ contact.name }}>"
    )
    found = render_action(
        "id", action, RUN, contact(traits={"name": "<!channel> & co"}), None, place, LINKS
    )
    assert found.text == "<https://x.test|&lt;!channel&gt; &amp; co>"


@pytest.mark.parametrize("value", ["9999999999999999", 1e400, "x" * 10])
def test_whatever_a_filter_raises_is_a_fault_of_the_template(value):
    for source in (
        "{{ contact.d | date: '%Y' }}",
        "{{ contact.d | ceil }}",
        "{{ contact.d | divided_by: 0 }}",
    ):
        try:
            render_template(source, {"contact": {"d": value}})
        except InvalidMessage as error:
            assert error.reason == "template"
