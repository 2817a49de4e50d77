"""Webhooks without a network: signatures, when a delivery is tried again, what is given up and what never is."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from libs.common.clock import SystemClock
from libs.common.errors import ConfigurationError
from libs.common.instants import DAY, HOUR, MINUTE, SECOND
from libs.common.messages import decode_value
from libs.common.messages.message_filter import MessageFilter
from services.orchestrator.subscriptions.subscription import (
    CIRCUIT_OPEN_AFTER,
    DISABLED_AFTER,
    DeliveryAttempt,
    DueMessage,
    ReceiverHealth,
    Subscription,
    evaluate_attempts,
    plan_chains,
)
from services.orchestrator.webhooks.standard_webhooks import (
    MAX_RETRY_AFTER,
    RETRY_DELAYS,
    SigningSecret,
    WebhookAnswer,
    encode_secret,
    parse_retry_after,
    retry_delay,
    signed_headers,
)
from tests.contract.golden import EXAMPLES

NOW = 1_780_000_000_000_000
OK, DOWN, GONE = WebhookAnswer(200, ""), WebhookAnswer(None, "refused"), WebhookAnswer(410, "")


def none():
    return 0.0


OLD, NEW = (encode_secret(bytes([n]) * 32) for n in (1, 2))


def subscription(**changes):
    plain = Subscription(
        1,
        "s",
        "default",
        "crm",
        "https://crm.example",
        MessageFilter(),
        (SigningSecret(NEW),),
        "active",
        "",
        {},
        ReceiverHealth(),
    )
    return msgspec.structs.replace(plain, **changes)


def verified(secret, given, body):
    try:
        Webhook(secret).verify(body.decode(), dict(given))
    except WebhookVerificationError:
        return False
    return True


def test_the_official_library_verifies_deliveries_also_during_rotation():
    now, body = SystemClock().now(), b'{"a":1}'
    both = signed_headers([SigningSecret(NEW), SigningSecret(OLD, now + SECOND)], "m-1", now, body)
    assert [verified(secret, both, body) for secret in (OLD, NEW)] == [True, True]
    after = signed_headers([SigningSecret(NEW), SigningSecret(OLD, now)], "m-1", now, body)
    assert [verified(secret, after, body) for secret in (OLD, NEW)] == [False, True]
    assert not verified(NEW, both, b'{"a":2}')
    assert not verified(
        NEW, [*both[:1], ("webhook-timestamp", str(now // SECOND - 1)), *both[2:]], body
    )
    assert not verified(NEW, [("webhook-id", "m-2"), *both[1:]], body)
    assert not verified(
        NEW, signed_headers([SigningSecret(NEW)], "m-1", now - 10 * MINUTE, body), body
    )


def test_a_secret_is_that_of_the_standard():
    assert base64.b64decode(NEW.removeprefix("whsec_")) == b"\x02" * 32
    for size in (23, 65):
        with pytest.raises(ConfigurationError, match="24 to 64"):
            encode_secret(bytes(size))
    with pytest.raises(ConfigurationError, match="base64"):
        signed_headers([SigningSecret("whsec_%%")], "m", NOW, b"")


def test_the_table_of_retries_is_that_of_the_standard():
    assert [wait // SECOND for wait in RETRY_DELAYS] == [
        5,
        300,
        1800,
        7200,
        18000,
        36000,
        50400,
        72000,
        86400,
    ]
    assert retry_delay(1, 0.999) < 6 * SECOND
    assert retry_delay(50, 0.0) == DAY


@pytest.mark.parametrize(
    ("said", "date", "pause"),
    [(None, None, None), ("7", None, 7 * SECOND), (" 7 ", None, 7 * SECOND), ("9999999", None, MAX_RETRY_AFTER),
     ("-1", None, None), ("soon", None, None), ("date", NOW + HOUR, HOUR), ("date", NOW - HOUR, 0),
     ("99999999999999999999", None, None)],
)  # fmt: skip
def test_retry_after(said, date, pause):
    assert parse_retry_after(said, NOW, date) == pause


def test_only_2xx_is_a_delivery():
    assert [WebhookAnswer(s, "").meaning for s in (200, 204, 299)] == ["delivered"] * 3
    assert [WebhookAnswer(s, "").meaning for s in (None, 100, 301, 400, 404, 429, 500, 503)] == [
        "again"
    ] * 8
    assert GONE.meaning == "gone"


def due(position, key="a", **more):
    return DueMessage((0, position), key, **more)


def test_what_is_about_the_same_contact_keeps_its_order_and_others_go_on():
    waits = [
        due(1, due_at=NOW + SECOND, waiting=True),
        due(2, waiting=True),
        due(3, "b", waiting=True),
    ]
    going, behind = plan_chains(waits, [due(4), due(5, "b"), due(6, "c")], {"a", "b"}, NOW)
    assert going == [[due(3, "b", waiting=True)], [due(6, "c")]]
    assert behind == [due(4), due(5, "b")]
    going, _ = plan_chains(waits, [], {"a", "b"}, NOW + SECOND)
    assert going[0] == waits[:2]


def told(current, answers, now=NOW):
    """What follows when messages about `a`, `b` … are answered so."""
    sent = [
        [due(number, name, waiting=True)]
        for number, name in enumerate("abcdefghij"[: len(answers)])
    ]
    tried = {
        chain[0].key: [DeliveryAttempt(chain[0], answer)]
        for chain, answer in zip(sent, answers, strict=True)
    }
    return evaluate_attempts(current, tried, sent, now, none)


def test_after_a_failure_the_message_waits_with_what_comes_behind_it():
    sent = [[due(1, waiting=True), due(2), due(3)]]
    verdict = evaluate_attempts(
        subscription(),
        {"a": [DeliveryAttempt(sent[0][0], OK, 1), DeliveryAttempt(sent[0][1], DOWN, 2)]},
        sent,
        NOW,
        none,
    )
    assert verdict.delivered == sent[0][:1]
    assert verdict.failed == [
        (due(2, attempts=1, first_failed_at=NOW, due_at=NOW + 5 * SECOND, fault="unreached"), False)
    ]
    assert verdict.behind == [due(3)]
    assert verdict.health == ReceiverHealth(("a",), 1, 0, NOW)


def test_a_receiver_that_went_away_within_a_turn_is_failing_though_it_took_something_before():
    """Else nobody notices that it is back, and what waits then waits as long as its table says."""
    sent = [[due(number, name, waiting=True)] for number, name in enumerate("abcdefg")]
    answers = {
        "a": (DOWN, 1),
        "b": (OK, 2),
        **{name: (DOWN, order) for order, name in enumerate("cdefg", 3)},
    }
    tried = {chain[0].key: [DeliveryAttempt(chain[0], *answers[chain[0].key])] for chain in sent}
    assert evaluate_attempts(subscription(), tried, sent, NOW, none).health.failing == tuple(
        "cdefg"
    )
    assert (
        evaluate_attempts(
            subscription(), {**tried, "b": [DeliveryAttempt(sent[1][0], OK, 9)]}, sent, NOW, none
        ).health
        == ReceiverHealth()
    )


def test_a_receiver_that_takes_nothing_is_left_alone_for_longer_and_longer():
    found, pauses = subscription(), []
    for _ in range(12):
        found = msgspec.structs.replace(found, health=told(found, [DOWN] * 5).health)
        pauses.append((found.health.pause_until - NOW) // SECOND if found.health.pause_until else 0)
    assert pauses == [5, 10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60]
    assert (found.health.is_down, found.health.failing_since) == (True, NOW)
    assert told(found, [OK]).health == ReceiverHealth()


def test_many_that_fail_together_say_no_more_than_a_few():
    verdict = told(subscription(), [DOWN] * 10)
    assert (len(verdict.health.failing), verdict.health.pause_until) == (
        CIRCUIT_OPEN_AFTER,
        NOW + 5 * SECOND,
    )


def test_one_contact_whose_messages_are_rejected_says_nothing_of_the_receiver():
    found = subscription()
    for _ in range(20):
        found = msgspec.structs.replace(found, health=told(found, [WebhookAnswer(422, "")]).health)
    assert (found.health.is_down, found.health.failing) == (False, ("a",))
    assert told(found, [DOWN], NOW + 30 * DAY).status == "active"


def test_a_receiver_with_one_contact_is_down_when_nobody_was_there_five_times():
    found = subscription()
    for _ in range(5):
        assert not found.health.is_down
        found = msgspec.structs.replace(found, health=told(found, [DOWN]).health)
    assert (found.health.is_down, found.health.pause_until) == (True, NOW + 5 * SECOND)
    assert [WebhookAnswer(s, "").fault for s in (None, 502, 503, 504)] == ["unreached"] * 4
    assert [WebhookAnswer(s, "").fault for s in (400, 413, 422)] == ["rejected"] * 3
    assert [WebhookAnswer(s, "").fault for s in (301, 401, 404, 429, 500)] == ["failed"] * 5


def test_what_is_gone_from_the_log_says_nothing_of_the_receiver():
    down = subscription(health=ReceiverHealth(tuple("abcde"), 0, 3, NOW))
    sent = [[due(1, waiting=True)]]
    verdict = evaluate_attempts(
        down, {"a": [DeliveryAttempt(sent[0][0], OK, sent=False)]}, sent, NOW, none
    )
    assert (verdict.delivered, verdict.health) == (sent[0], down.health)


def test_retry_after_pauses_the_receiver_at_once():
    assert (
        told(subscription(), [WebhookAnswer(429, "", 60 * SECOND)]).health.pause_until
        == NOW + 60 * SECOND
    )
    assert (
        told(subscription(), [OK, WebhookAnswer(503, "", 60 * SECOND)]).health.pause_until
        == NOW + 60 * SECOND
    )


def test_410_disables_and_so_do_seven_days_of_nothing():
    assert (told(subscription(), [GONE]).status, "410" in told(subscription(), [GONE]).reason) == (
        "disabled",
        True,
    )
    failing = subscription(health=ReceiverHealth(tuple("abcde"), 0, 1, NOW))
    assert told(failing, [DOWN], NOW + DISABLED_AFTER - 1).status == "active"
    assert told(failing, [DOWN], NOW + DISABLED_AFTER).status == "disabled"
    assert told(failing, [OK], NOW + DISABLED_AFTER).status == "active"


def test_a_message_is_given_up_after_seven_days_only_while_others_go_through():
    old = due(1, attempts=30, first_failed_at=NOW - 7 * DAY, waiting=True)
    sent = [[old], [due(2, "b")]]
    answers = {"a": [DeliveryAttempt(old, DOWN)], "b": [DeliveryAttempt(sent[1][0], OK)]}
    ((_, over),) = evaluate_attempts(subscription(), answers, sent, NOW, none).failed
    assert over
    young = msgspec.structs.replace(old, first_failed_at=NOW - 7 * DAY + 1)
    ((_, over),) = evaluate_attempts(
        subscription(), {"a": [DeliveryAttempt(young, DOWN)]}, [[young]], NOW, none
    ).failed
    assert not over
    down = subscription(health=ReceiverHealth(tuple("abcde"), 0, 1, NOW - DAY))
    ((_, over),) = evaluate_attempts(
        down, {"a": [DeliveryAttempt(old, DOWN)]}, [[old]], NOW, none
    ).failed
    assert not over


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=12),
    st.randoms(use_true_random=False),
)
def test_nothing_is_lost_and_nothing_overtakes(rows, chance):
    """Each message is delivered, waits, or is behind, exactly once; per contact what is delivered comes first."""
    waits = [
        due(n, key, waiting=True, due_at=NOW + late)
        for n, (key, late, old) in enumerate(rows)
        if old
    ]
    blocked = {one.key for one in waits}
    fresh = [due(len(rows) + n, key) for n, (key, _, old) in enumerate(rows) if not old]
    going, behind = plan_chains(waits, fresh, blocked, NOW)
    tried = {}
    for chain in going:
        upto = chance.randint(0, len(chain) - 1)
        answers = [OK] * upto + [chance.choice([OK, DOWN])]
        tried[chain[0].key] = [
            DeliveryAttempt(one, answer) for one, answer in zip(chain, answers, strict=False)
        ]
        if answers[-1] == OK:
            tried[chain[0].key] = [DeliveryAttempt(one, OK) for one in chain]
    verdict = evaluate_attempts(subscription(), tried, going, NOW, none)
    left = {one.log_position for one in waits} - {one.log_position for one in verdict.delivered}
    left |= {one.log_position for one, _ in verdict.failed} | {
        one.log_position for one in (*verdict.behind, *behind)
    }
    done = {one.log_position for one in verdict.delivered}
    assert left | done == {one.log_position for one in (*waits, *fresh)}
    assert not left & done
    for key in "abc":
        mine = [one.log_position for one in (*waits, *fresh) if one.key == key]
        states = [place in done for place in mine]
        assert states == sorted(states, reverse=True)


STAGE, ACCOUNT, SIGNAL, EVENT = EXAMPLES[1:5]


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [({}, [STAGE]), ({"types": ("stage_change", "signal", "account_stage_change")}, [STAGE, ACCOUNT, SIGNAL]),
     ({"cycles": ("engagement",)}, [STAGE]), ({"cycles": ("other",)}, []), ({"stages": ("prospect", "x")}, [STAGE]),
     ({"stages": ("lead",)}, []), ({"directions": ("advance",)}, [STAGE]), ({"directions": ("regression",)}, []),
     ({"reasons": ("touchpoint",)}, [STAGE]), ({"reasons": ("time",)}, []),
     ({"types": ("compelling_event",)}, [EVENT]), ({"types": ("compelling_event",), "cycles": ("other",)}, [EVENT]),
     ({"types": ("compelling_event",), "signals": ("contract_ends",)}, [EVENT]),
     ({"types": ("compelling_event",), "signals": ("funding",)}, []),
     ({"types": ("signal",), "signals": ("order_completed",)}, [SIGNAL]), ({"types": ("signal",), "signals": ("x",)}, [])],
)  # fmt: skip
def test_a_selection_takes_what_it_names(wanted, taken):
    found = MessageFilter(**wanted)
    for example in (STAGE, ACCOUNT, SIGNAL, EVENT):
        value = msgspec.json.encode(example)
        assert decode_value(type(example), value) == example
        assert found.matches("default", type(example).KIND, value) == (example in taken)
        assert not found.matches("other", type(example).KIND, value)
    assert not found.matches("default", "perigee.unheard-of.v1", b"{}")
