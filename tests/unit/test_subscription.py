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
from services.orchestrator.domain.subscription import (
    DISABLED_AFTER,
    OPEN_AFTER,
    Due,
    Health,
    Subscription,
    Tried,
    chains,
    judge,
)
from services.orchestrator.domain.webhook import (
    LONGEST_PAUSE,
    WAITS,
    Answer,
    Secret,
    headers,
    pause_of,
    secret_of,
    wait_after,
)
from tests.contract.golden import EXAMPLES

NOW = 1_780_000_000_000_000
OK, DOWN, GONE = Answer(200, ""), Answer(None, "refused"), Answer(410, "")


def none():
    return 0.0


OLD, NEW = (secret_of(bytes([n]) * 32) for n in (1, 2))


def subscription(**changes):
    plain = Subscription(
        1, "s", "default", "crm", "https://crm.example", MessageFilter(), (Secret(NEW),), "active", "", {}, Health()
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
    both = headers([Secret(NEW), Secret(OLD, now + SECOND)], "m-1", now, body)
    assert [verified(secret, both, body) for secret in (OLD, NEW)] == [True, True]
    after = headers([Secret(NEW), Secret(OLD, now)], "m-1", now, body)
    assert [verified(secret, after, body) for secret in (OLD, NEW)] == [False, True]
    assert not verified(NEW, both, b'{"a":2}')
    assert not verified(NEW, [*both[:1], ("webhook-timestamp", str(now // SECOND - 1)), *both[2:]], body)
    assert not verified(NEW, [("webhook-id", "m-2"), *both[1:]], body)
    assert not verified(NEW, headers([Secret(NEW)], "m-1", now - 10 * MINUTE, body), body)


def test_a_secret_is_that_of_the_standard():
    assert base64.b64decode(NEW.removeprefix("whsec_")) == b"\x02" * 32
    for size in (23, 65):
        with pytest.raises(ConfigurationError, match="24 to 64"):
            secret_of(bytes(size))
    with pytest.raises(ConfigurationError, match="base64"):
        headers([Secret("whsec_%%")], "m", NOW, b"")


def test_the_table_of_retries_is_that_of_the_standard():
    assert [wait // SECOND for wait in WAITS] == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert wait_after(1, 0.999) < 6 * SECOND
    assert wait_after(50, 0.0) == DAY


@pytest.mark.parametrize(
    ("said", "date", "pause"),
    [(None, None, None), ("7", None, 7 * SECOND), (" 7 ", None, 7 * SECOND), ("9999999", None, LONGEST_PAUSE),
     ("-1", None, None), ("soon", None, None), ("date", NOW + HOUR, HOUR), ("date", NOW - HOUR, 0),
     ("99999999999999999999", None, None)],
)  # fmt: skip
def test_retry_after(said, date, pause):
    assert pause_of(said, NOW, date) == pause


def test_only_2xx_is_a_delivery():
    assert [Answer(s, "").meaning for s in (200, 204, 299)] == ["delivered"] * 3
    assert [Answer(s, "").meaning for s in (None, 100, 301, 400, 404, 429, 500, 503)] == ["again"] * 8
    assert GONE.meaning == "gone"


def due(position, key="a", **more):
    return Due((0, position), key, **more)


def test_what_is_about_the_same_contact_keeps_its_order_and_others_go_on():
    waits = [due(1, due_at=NOW + SECOND, waiting=True), due(2, waiting=True), due(3, "b", waiting=True)]
    going, behind = chains(waits, [due(4), due(5, "b"), due(6, "c")], {"a", "b"}, NOW)
    assert going == [[due(3, "b", waiting=True)], [due(6, "c")]]
    assert behind == [due(4), due(5, "b")]
    going, _ = chains(waits, [], {"a", "b"}, NOW + SECOND)
    assert going[0] == waits[:2]


def told(current, answers, now=NOW):
    """What follows when messages about `a`, `b` … are answered so."""
    sent = [[due(number, name, waiting=True)] for number, name in enumerate("abcdefghij"[: len(answers)])]
    tried = {chain[0].key: [Tried(chain[0], answer)] for chain, answer in zip(sent, answers, strict=True)}
    return judge(current, tried, sent, now, none)


def test_after_a_failure_the_message_waits_with_what_comes_behind_it():
    sent = [[due(1, waiting=True), due(2), due(3)]]
    verdict = judge(subscription(), {"a": [Tried(sent[0][0], OK, 1), Tried(sent[0][1], DOWN, 2)]}, sent, NOW, none)
    assert verdict.delivered == sent[0][:1]
    assert verdict.failed == [
        (due(2, attempts=1, first_failed_at=NOW, due_at=NOW + 5 * SECOND, fault="unreached"), False)
    ]
    assert verdict.behind == [due(3)]
    assert verdict.health == Health(("a",), 1, 0, NOW)


def test_a_receiver_that_went_away_within_a_turn_is_failing_though_it_took_something_before():
    """Else nobody notices that it is back, and what waits then waits as long as its table says."""
    sent = [[due(number, name, waiting=True)] for number, name in enumerate("abcdefg")]
    answers = {"a": (DOWN, 1), "b": (OK, 2), **{name: (DOWN, order) for order, name in enumerate("cdefg", 3)}}
    tried = {chain[0].key: [Tried(chain[0], *answers[chain[0].key])] for chain in sent}
    assert judge(subscription(), tried, sent, NOW, none).health.failing == tuple("cdefg")
    assert judge(subscription(), {**tried, "b": [Tried(sent[1][0], OK, 9)]}, sent, NOW, none).health == Health()


def test_a_receiver_that_takes_nothing_is_left_alone_for_longer_and_longer():
    found, pauses = subscription(), []
    for _ in range(12):
        found = msgspec.structs.replace(found, health=told(found, [DOWN] * 5).health)
        pauses.append((found.health.pause_until - NOW) // SECOND if found.health.pause_until else 0)
    assert pauses == [5, 10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60]
    assert (found.health.down, found.health.failing_since) == (True, NOW)
    assert told(found, [OK]).health == Health()


def test_many_that_fail_together_say_no_more_than_a_few():
    verdict = told(subscription(), [DOWN] * 10)
    assert (len(verdict.health.failing), verdict.health.pause_until) == (OPEN_AFTER, NOW + 5 * SECOND)


def test_one_contact_whose_messages_are_rejected_says_nothing_of_the_receiver():
    found = subscription()
    for _ in range(20):
        found = msgspec.structs.replace(found, health=told(found, [Answer(422, "")]).health)
    assert (found.health.down, found.health.failing) == (False, ("a",))
    assert told(found, [DOWN], NOW + 30 * DAY).status == "active"


def test_a_receiver_with_one_contact_is_down_when_nobody_was_there_five_times():
    found = subscription()
    for _ in range(5):
        assert not found.health.down
        found = msgspec.structs.replace(found, health=told(found, [DOWN]).health)
    assert (found.health.down, found.health.pause_until) == (True, NOW + 5 * SECOND)
    assert [Answer(s, "").fault for s in (None, 502, 503, 504)] == ["unreached"] * 4
    assert [Answer(s, "").fault for s in (400, 413, 422)] == ["rejected"] * 3
    assert [Answer(s, "").fault for s in (301, 401, 404, 429, 500)] == ["failed"] * 5


def test_what_is_gone_from_the_log_says_nothing_of_the_receiver():
    down = subscription(health=Health(tuple("abcde"), 0, 3, NOW))
    sent = [[due(1, waiting=True)]]
    verdict = judge(down, {"a": [Tried(sent[0][0], OK, sent=False)]}, sent, NOW, none)
    assert (verdict.delivered, verdict.health) == (sent[0], down.health)


def test_retry_after_pauses_the_receiver_at_once():
    assert told(subscription(), [Answer(429, "", 60 * SECOND)]).health.pause_until == NOW + 60 * SECOND
    assert told(subscription(), [OK, Answer(503, "", 60 * SECOND)]).health.pause_until == NOW + 60 * SECOND


def test_410_disables_and_so_do_seven_days_of_nothing():
    assert (told(subscription(), [GONE]).status, "410" in told(subscription(), [GONE]).reason) == ("disabled", True)
    failing = subscription(health=Health(tuple("abcde"), 0, 1, NOW))
    assert told(failing, [DOWN], NOW + DISABLED_AFTER - 1).status == "active"
    assert told(failing, [DOWN], NOW + DISABLED_AFTER).status == "disabled"
    assert told(failing, [OK], NOW + DISABLED_AFTER).status == "active"


def test_a_message_is_given_up_after_seven_days_only_while_others_go_through():
    old = due(1, attempts=30, first_failed_at=NOW - 7 * DAY, waiting=True)
    sent = [[old], [due(2, "b")]]
    answers = {"a": [Tried(old, DOWN)], "b": [Tried(sent[1][0], OK)]}
    ((_, over),) = judge(subscription(), answers, sent, NOW, none).failed
    assert over
    young = msgspec.structs.replace(old, first_failed_at=NOW - 7 * DAY + 1)
    ((_, over),) = judge(subscription(), {"a": [Tried(young, DOWN)]}, [[young]], NOW, none).failed
    assert not over
    down = subscription(health=Health(tuple("abcde"), 0, 1, NOW - DAY))
    ((_, over),) = judge(down, {"a": [Tried(old, DOWN)]}, [[old]], NOW, none).failed
    assert not over


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=12),
    st.randoms(use_true_random=False),
)
def test_nothing_is_lost_and_nothing_overtakes(rows, chance):
    """Each message is delivered, waits, or is behind, exactly once; per contact what is delivered comes first."""
    waits = [due(n, key, waiting=True, due_at=NOW + late) for n, (key, late, old) in enumerate(rows) if old]
    blocked = {one.key for one in waits}
    fresh = [due(len(rows) + n, key) for n, (key, _, old) in enumerate(rows) if not old]
    going, behind = chains(waits, fresh, blocked, NOW)
    tried = {}
    for chain in going:
        upto = chance.randint(0, len(chain) - 1)
        answers = [OK] * upto + [chance.choice([OK, DOWN])]
        tried[chain[0].key] = [Tried(one, answer) for one, answer in zip(chain, answers, strict=False)]
        if answers[-1] == OK:
            tried[chain[0].key] = [Tried(one, OK) for one in chain]
    verdict = judge(subscription(), tried, going, NOW, none)
    left = {one.place for one in waits} - {one.place for one in verdict.delivered}
    left |= {one.place for one, _ in verdict.failed} | {one.place for one in (*verdict.behind, *behind)}
    done = {one.place for one in verdict.delivered}
    assert left | done == {one.place for one in (*waits, *fresh)}
    assert not left & done
    for key in "abc":
        mine = [one.place for one in (*waits, *fresh) if one.key == key]
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
