"""Rendered messages: templates, unsubscribe tokens, e-mails and webhook bodies."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli.home import PROJECT
from libs.common.conditions import parse_condition
from libs.common.documents import parse_document
from libs.common.errors import InvalidMessage
from libs.common.ids import ContactId, WorkspaceId
from services.orchestrator.channels.email import EmailChannel, build_email
from services.orchestrator.definition_file_reader import read_contents, read_plays, read_segments
from services.orchestrator.domain.action_spec import ActionSpec
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
from tests.unit.orchestrator.builders import contact_facts


@given(st.text(alphabet="0123456789abcdef", min_size=1), st.sampled_from(["email", "webhook"]))
def test_unsubscribe_token_names_contact_and_channel(contact_id, channel):
    token = sign_token("secret-of-16-chars", contact_id, channel)

    assert verify_token("secret-of-16-chars", token) == (contact_id, channel)
    assert verify_token("another-of-16-chr", token) is None
    assert verify_token(
        "secret-of-16-chars", token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    ) in (
        None,
        (contact_id, channel),
    )


@given(st.text(max_size=60))
def test_random_text_is_no_token(token):
    assert verify_token("secret-of-16-chars", token) is None


def test_template_renders_escapes_and_refuses_unknown_names():
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


def rendered_message(**fields):
    defaults = {
        "action_id": "act",
        "address": "a@x.test",
        "subject": "Hé",
        "text": "hello",
        "html": "<p>hello</p>",
        "unsubscribe_url": "https://x.test/u/token",
    }
    return RenderedMessage(**{**defaults, **fields})


def test_email_has_both_parts_and_one_click_unsubscribe():
    message = build_email(rendered_message(), "Perigee <hello@x.test>")

    assert message["List-Unsubscribe"] == "<https://x.test/u/token>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["Message-ID"] == "<act@perigee>"
    assert [p.get_content_type() for p in message.iter_parts()] == ["text/plain", "text/html"]


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
def test_invalid_address_or_subject_is_refused(fields):
    with pytest.raises(ValueError):
        build_email(rendered_message(**fields), "hello@x.test")


@given(st.text(max_size=40))
async def test_email_channel_raises_for_no_address(address):
    """The header parser raises many errors for typed addresses; the channel raises none."""
    result = await EmailChannel("smtp://127.0.0.1:1", "hello@x.test").send(
        rendered_message(address=address)
    )

    assert result.outcome in ("refused", "again")


SECRET = encode_secret(bytes(range(32)))
LINKS = MessageLinks("https://x.test", "secret-of-16-chars")
ENROLLMENT = Enrollment(
    "e",
    WorkspaceId("default"),
    ContactId("c"),
    "test",
    1,
    "cause",
    0,
    {"properties": {"total": 42}},
)
ITEM = ContentItem(content="guide", type="guide", title="A guide", url="https://x.test/guide")


def test_action_renders_facts_event_and_content():
    text = (
        "{{ contact.name }} at {{ contact.cycles.engagement.stage }}:"
        " {{ event.properties.total }}, {{ content.title }}"
    )
    action = ActionSpec(action="a", channel="email", mail={"subject": "Hi", "text": text})

    message = render_action(
        "id",
        action,
        ENROLLMENT,
        contact_facts(traits={"name": "Ada", "email": "a@x.test"}),
        ITEM,
        None,
        LINKS,
    )

    assert (message.text, message.address) == ("Ada at lead: 42, A guide", "a@x.test")
    assert verify_token("secret-of-16-chars", message.unsubscribe_url.split("/u/")[1]) == (
        "c",
        "email",
    )


def test_missing_trait_is_an_error():
    action = ActionSpec(
        action="a", channel="email", mail={"subject": "Hi {{ contact.name }}", "text": "t"}
    )

    with pytest.raises(InvalidMessage, match="name"):
        render_action(
            "id", action, ENROLLMENT, contact_facts(traits={"email": "a@x.test"}), None, None, LINKS
        )


def test_webhook_message_has_contact_ids_and_fields():
    destination = Destination(
        destination="crm", channel="webhook", url="https://crm.test/hook", secret=SECRET
    )
    action = ActionSpec(
        action="a",
        channel="webhook",
        destination="crm",
        text="{{ contact.id }}",
        data={"n": "{{ event.properties.total }}"},
    )

    message = render_action(
        "id",
        action,
        ENROLLMENT,
        contact_facts(user_id="u", external_ids={"hubspot": "7"}),
        None,
        destination,
        LINKS,
    )

    assert message.address == destination.url
    assert (message.data["fields"], message.data["text"], message.data["user_id"]) == (
        {"n": "42"},
        "c",
        "u",
    )


def test_shipped_actions_render_for_contact_without_traits():
    contents = [
        parse_document(ContentItem, text, name)
        for name, text in read_contents(PROJECT / "content").items()
    ]
    segments = {
        name: parse_condition(yaml.safe_load(text)["when"])
        for name, text in read_segments(PROJECT / "segments").items()
    }
    destination = Destination(destination="sales", channel="webhook", url="https://crm.test/hook")
    events = ({"properties": {}}, {"from": "lead", "to": "prospect"})

    count = 0

    for name, text in read_plays(PROJECT / "plays").items():
        compiled = compile_play(parse_document(Play, text, name), 1, segments)
        event = events[compiled.play.trigger.stage_change is not None]
        for action in compiled.actions.values():
            facts = contact_facts(traits={"email": "a@x.test"} if action.channel == "email" else {})
            enrollment = Enrollment("e", "default", "c", name, 1, "cause", 0, event)
            for item in contents if action.content else [None]:
                message = render_action(
                    "id",
                    action,
                    enrollment,
                    facts,
                    item,
                    None if action.channel == "email" else destination,
                    LINKS,
                )
                assert message.text or action.audience
                if action.channel == "email" and action.purpose == "marketing":
                    assert message.unsubscribe_url in message.text, (
                        f"{name}.{action.action} has no unsubscribe link"
                    )
                count += 1
    assert count > 20


@pytest.mark.parametrize("secret", ["my-secret", "whsec_", "whsec_%%%", "whsec_" + "A" * 8])
def test_destination_with_unusable_secret_is_refused(secret):
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        Destination(
            destination="crm", channel="webhook", url="https://crm.test/hook", secret=secret
        )


def test_trait_mentions_no_slack_channel():
    destination = Destination(destination="crm", channel="slack", url="https://hooks.test/x")
    action = ActionSpec(
        action="a", channel="slack", destination="crm", text="<https://x.test|{{ contact.name }}>"
    )

    message = render_action(
        "id",
        action,
        ENROLLMENT,
        contact_facts(traits={"name": "<!channel> & co"}),
        None,
        destination,
        LINKS,
    )

    assert message.text == "<https://x.test|&lt;!channel&gt; &amp; co>"


@pytest.mark.parametrize("value", ["9999999999999999", 1e400, "x" * 10])
def test_filter_error_is_an_invalid_template(value):
    for source in (
        "{{ contact.d | date: '%Y' }}",
        "{{ contact.d | ceil }}",
        "{{ contact.d | divided_by: 0 }}",
    ):
        try:
            render_template(source, {"contact": {"d": value}})
        except InvalidMessage as error:
            assert error.reason == "template"
