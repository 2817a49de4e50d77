"""Gate, ledger ids, tokens, templates, plays."""

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.home import PROJECT
from libs.common.errors import ConfigurationError, InvalidMessage
from libs.common.messages import Cause, Signal, StageChange, StageMove
from services.orchestrator.channels import Letter, Result
from services.orchestrator.channels.email import EmailChannel, compose
from services.orchestrator.domain.gate import Facts, Rules, judge, next_allowed
from services.orchestrator.domain.ledger import action_id, enrollment_id, in_holdout
from services.orchestrator.domain.play import parse
from services.orchestrator.domain.template import render
from services.orchestrator.domain.token import sign, verify
from services.orchestrator.handlers.dispatch import MAX_ATTEMPTS, _consequence
from services.orchestrator.plays import read_plays

DAY = 86_400_000_000


def instant(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def facts(**fields):
    given_facts = {"purpose": "marketing", "address": "a@x.test", "consent": True, "suppressed": None, "used_today": 0}
    return Facts(**{**given_facts, **fields})


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({}, "send", "allowed"),
        ({"consent": None}, "suppressed", "no_consent"),
        ({"consent": False}, "suppressed", "consent_withdrawn"),
        ({"consent": None, "purpose": "transactional"}, "send", "allowed"),
        ({"suppressed": "unsubscribed"}, "suppressed", "unsubscribed"),
        ({"suppressed": "unsubscribed", "purpose": "transactional"}, "suppressed", "unsubscribed"),
        ({"address": None}, "skipped", "no_address"),
        ({"used_today": 3}, "capped", "cap_of_3_per_day"),
        ({"held_out": True}, "holdout", "holdout"),
    ],
)
def test_the_gate(fields, status, reason):
    verdict = judge(facts(**fields), Rules(), 0)
    assert (verdict.status, verdict.reason) == (status, reason)


NIGHT = Rules(quiet_from=time(21), quiet_to=time(8))


@pytest.mark.parametrize(
    ("now", "zone", "allowed"),
    [
        ("2026-06-01T12:00:00", "UTC", "2026-06-01T12:00:00"),
        ("2026-06-01T22:00:00", "UTC", "2026-06-02T08:00:00"),
        ("2026-06-01T03:00:00", "UTC", "2026-06-01T08:00:00"),
        ("2026-06-01T21:00:00", "UTC", "2026-06-02T08:00:00"),
        ("2026-06-01T08:00:00", "UTC", "2026-06-01T08:00:00"),
        ("2026-06-01T19:30:00", "Europe/Paris", "2026-06-02T06:00:00"),
        ("2026-06-01T19:30:00", "Nowhere/Land", "2026-06-01T19:30:00"),
        # The night of the change to summer time is an hour shorter.
        ("2026-03-28T23:00:00", "Europe/Paris", "2026-03-29T06:00:00"),
    ],
)
def test_quiet_hours_in_the_contacts_time_zone(now, zone, allowed):
    assert next_allowed(instant(now), NIGHT, zone) == instant(allowed)


def test_quiet_hours_hold_and_are_off_by_default():
    verdict = judge(facts(), NIGHT, instant("2026-06-01T23:00:00"))
    assert (verdict.status, verdict.until) == ("held", instant("2026-06-02T08:00:00"))
    assert judge(facts(), Rules(), instant("2026-06-01T23:00:00")).status == "send"


def test_daytime_quiet_hours():
    siesta = Rules(quiet_from=time(13), quiet_to=time(15))
    assert next_allowed(instant("2026-06-01T14:00:00"), siesta, "UTC") == instant("2026-06-01T15:00:00")


def test_a_cause_enrols_once():
    never = [enrollment_id("default", "welcome", "c", cause, "never") for cause in ("s1", "s2")]
    always = [enrollment_id("default", "welcome", "c", cause, "always") for cause in ("s1", "s2")]
    assert never[0] == never[1]
    assert always[0] != always[1]
    assert action_id(never[0], "mail") == action_id(never[0], "mail") != action_id(never[0], "mail", 2)


def test_the_holdout_is_stable_and_about_as_large_as_asked():
    held = [in_holdout("welcome", str(n), 0.1) for n in range(5_000)]
    assert 400 < sum(held) < 600
    assert not any(in_holdout("welcome", str(n), 0.0) for n in range(100))


@given(st.text(alphabet="0123456789abcdef", min_size=1), st.sampled_from(["email", "webhook"]))
def test_a_token_opens_only_what_it_was_made_for(contact, channel):
    token = sign("secret-of-16-chars", contact, channel)
    assert verify("secret-of-16-chars", token) == (contact, channel)
    assert verify("another-of-16-chr", token) is None
    assert verify("secret-of-16-chars", token[:-2] + ("AA" if token[-2:] != "AA" else "BB")) in (
        None,
        (contact, channel),
    )


@given(st.text(max_size=60))
def test_rubbish_is_no_token(token):
    assert verify("secret-of-16-chars", token) is None


def test_templates_render_escape_and_refuse_blanks():
    assert render("Hi {{ contact.name }}", {"contact": {"name": "<Zoë>"}}) == "Hi <Zoë>"
    assert render("Hi {{ contact.name }}", {"contact": {"name": "<Zoë>"}}, html=True) == "Hi &lt;Zoë&gt;"
    with pytest.raises(InvalidMessage, match="template"):
        render("Hi {{ contact.name }}", {"contact": {}})
    with pytest.raises(InvalidMessage):
        render("{% for a in (1..99999) %}{% for b in (1..99999) %}x{% endfor %}{% endfor %}", {})


WELCOME = (PROJECT / "plays" / "welcome.yaml").read_text()


def signal(**fields):
    base = {
        "id": "s", "workspace": "default", "contact_id": "c", "cycle": "engagement", "signal": "newsletter_subscribed",
        "occurred_at": 0, "received_at": 0, "source": "web", "message_id": "m",
    }  # fmt: skip
    return Signal(**{**base, **fields})


def change(**fields):
    base = {
        "id": "s", "workspace": "default", "contact_id": "c", "cycle": "engagement", "cycle_version": "1", "sequence": 1,
        "occurred_at": 0, "direction": "regression", "stage": StageMove("lead", "visitor"), "axes": {}, "dormant": False,
        "instance": "i", "reason": "time", "cause": Cause("time", 0), "values": {},
    }  # fmt: skip
    return StageChange(**{**base, **fields})


def test_the_welcome_play_starts_on_a_live_young_subscription():
    play = parse(WELCOME, "welcome.yaml")
    assert play.starts_on(signal(), DAY)
    assert not play.starts_on(signal(), DAY + 1)
    assert not play.starts_on(signal(historical=True), 0)
    assert not play.starts_on(signal(signal="order_completed"), 0)
    assert not play.starts_on(change(), 0)


@pytest.mark.parametrize(
    ("trigger", "fields", "starts"),
    [
        ("{cycle: engagement, direction: regression}", {}, True),
        ("{cycle: engagement, to: visitor, from: lead}", {}, True),
        ("{cycle: engagement, to: customer}", {}, False),
        ("{cycle: other}", {}, False),
        ("{cycle: engagement}", {"reason": "history"}, False),
        ("{cycle: engagement}", {"reason": "corrected"}, False),
        ("{cycle: engagement}", {"reason": "touchpoint"}, True),
    ],
)
def test_a_play_on_a_stage_change_takes_ordinary_reasons_only(trigger, fields, starts):
    text = WELCOME.replace("{signal: newsletter_subscribed}", f"{{stage_change: {trigger}}}")
    assert parse(text, "p.yaml").starts_on(change(**fields), 0) is starts


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("channel: email", "channel: pigeon", "steps.0.channel"),
        ("{signal: newsletter_subscribed}", "{}", "exactly one of"),
        ("max_age: 24h", "max_age: soon", "max_age"),
        ("{{ contact.email }}", "{{ contact.email ", "not a Liquid template"),
        ("re_entry: never", "re_entry: maybe", "re_entry"),
        ("play: welcome", "jig: welcome", "jig"),
        ("version:", "version", "not YAML"),
    ],
)
def test_a_broken_play_names_its_place(old, new, named):
    with pytest.raises(ConfigurationError) as error:
        parse(WELCOME.replace(old, new), "welcome.yaml")
    assert "welcome.yaml" in str(error.value)
    assert named in str(error.value)


def test_plays_of_a_folder(tmp_path):
    assert read_plays(tmp_path) == []
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(WELCOME)
    with pytest.raises(ConfigurationError, match="one name"):
        read_plays(tmp_path)
    (tmp_path / "b.yaml").unlink()
    assert read_plays(tmp_path, "31d")[0].max_age == 31 * DAY
    with pytest.raises(ConfigurationError, match="PERIGEE_MAX_AGE"):
        read_plays(tmp_path, "old")


def letter(**fields):
    base = {
        "action_id": "act", "address": "a@x.test", "subject": "Hé", "text": "hello", "html": "<p>hello</p>",
        "unsubscribe_url": "https://x.test/u/token",
    }  # fmt: skip
    return Letter(**{**base, **fields})


def test_a_mail_has_both_parts_and_one_click_unsubscribe():
    mail = compose(letter(), "Perigee <hello@x.test>")
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
        compose(letter(**fields), "hello@x.test")


@pytest.mark.parametrize(
    ("attempt", "outcome", "status", "delivery"),
    [
        (1, "delivered", "sent", "delivered"),
        (1, "again", "pending", "retried"),
        (MAX_ATTEMPTS, "again", "failed", "failed"),
        (1, "refused", "failed", "failed"),
        (1, "unknown", "in_doubt", "unknown"),
    ],
)
def test_what_follows_an_attempt(attempt, outcome, status, delivery):
    found = _consequence(attempt, Result(outcome, "x"), 1_000)
    assert found[:2] == (status, delivery)
    assert (found[2] > 1_000) == (status == "pending")


@given(st.text(max_size=40))
async def test_no_address_that_people_type_raises(address):
    """A channel never raises: the header parser has many kinds of errors for what a public form takes in."""
    result = await EmailChannel("smtp://127.0.0.1:1", "hello@x.test").send(letter(address=address))
    assert result.outcome in ("refused", "again")
