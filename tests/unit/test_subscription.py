"""Subscriptions without a network: order of deliveries, retries, receiver health, disabling."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from libs.common.instants import DAY, SECOND
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
    SigningSecret,
    WebhookAnswer,
    encode_secret,
)

SECRET = encode_secret(b"\x02" * 32)
NOW = 1_780_000_000_000_000
OK, DOWN, GONE = WebhookAnswer(200, ""), WebhookAnswer(None, "refused"), WebhookAnswer(410, "")


def subscription(**changes):
    base = Subscription(
        1,
        "s",
        "default",
        "crm",
        "https://crm.example",
        MessageFilter(),
        (SigningSecret(SECRET),),
        "active",
        "",
        {},
        ReceiverHealth(),
    )
    return msgspec.structs.replace(base, **changes)


def evaluate(current, attempts, sent, now=NOW):
    """Return the verdict of attempts, with retry delays without jitter."""
    return evaluate_attempts(current, attempts, sent, now, lambda: 0.0)


def due_message(position, key="a", **more):
    return DueMessage((0, position), key, **more)


def test_messages_of_one_contact_keep_their_order():
    waiting = [
        due_message(1, due_at=NOW + SECOND, waiting=True),
        due_message(2, waiting=True),
        due_message(3, "b", waiting=True),
    ]

    chains, behind = plan_chains(
        waiting, [due_message(4), due_message(5, "b"), due_message(6, "c")], {"a", "b"}, NOW
    )

    assert chains == [[due_message(3, "b", waiting=True)], [due_message(6, "c")]]
    assert behind == [due_message(4), due_message(5, "b")]

    chains, _ = plan_chains(waiting, [], {"a", "b"}, NOW + SECOND)

    assert chains[0] == waiting[:2]


def verdict_of_answers(current, answers, now=NOW):
    """Return the verdict when messages about contacts `a`, `b` … get these answers."""
    sent = [
        [due_message(number, name, waiting=True)]
        for number, name in enumerate("abcdefghij"[: len(answers)])
    ]
    attempts = {
        chain[0].key: [DeliveryAttempt(chain[0], answer)]
        for chain, answer in zip(sent, answers, strict=True)
    }
    return evaluate(current, attempts, sent, now)


def test_failed_message_waits_with_its_successors():
    sent = [[due_message(1, waiting=True), due_message(2), due_message(3)]]

    verdict = evaluate(
        subscription(),
        {"a": [DeliveryAttempt(sent[0][0], OK, 1), DeliveryAttempt(sent[0][1], DOWN, 2)]},
        sent,
    )

    assert verdict.delivered == sent[0][:1]
    assert verdict.failed == [
        (
            due_message(
                2, attempts=1, first_failed_at=NOW, due_at=NOW + 5 * SECOND, fault="unreached"
            ),
            False,
        )
    ]
    assert verdict.behind == [due_message(3)]
    assert verdict.health == ReceiverHealth(("a",), 1, 0, NOW)


def test_receiver_lost_after_a_delivery_is_failing():
    """Otherwise its recovery is not noticed, and messages wait for their whole retry delay."""
    sent = [[due_message(number, name, waiting=True)] for number, name in enumerate("abcdefg")]
    answers = {
        "a": (DOWN, 1),
        "b": (OK, 2),
        **{name: (DOWN, order) for order, name in enumerate("cdefg", 3)},
    }

    attempts = {chain[0].key: [DeliveryAttempt(chain[0], *answers[chain[0].key])] for chain in sent}

    assert evaluate(subscription(), attempts, sent).health.failing == tuple("cdefg")
    assert (
        evaluate(
            subscription(), {**attempts, "b": [DeliveryAttempt(sent[1][0], OK, 9)]}, sent
        ).health
        == ReceiverHealth()
    )


def test_pauses_of_failing_receiver_double_to_a_minute():
    current, pauses = subscription(), []

    for _ in range(12):
        current = msgspec.structs.replace(
            current, health=verdict_of_answers(current, [DOWN] * 5).health
        )
        pauses.append(
            (current.health.pause_until - NOW) // SECOND if current.health.pause_until else 0
        )

    assert pauses == [5, 10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60]
    assert (current.health.is_down, current.health.failing_since) == (True, NOW)
    assert verdict_of_answers(current, [OK]).health == ReceiverHealth()


def test_simultaneous_failures_count_up_to_the_threshold():
    verdict = verdict_of_answers(subscription(), [DOWN] * 10)

    assert (len(verdict.health.failing), verdict.health.pause_until) == (
        CIRCUIT_OPEN_AFTER,
        NOW + 5 * SECOND,
    )


def test_rejections_of_one_contact_leave_receiver_up():
    current = subscription()

    for _ in range(20):
        current = msgspec.structs.replace(
            current, health=verdict_of_answers(current, [WebhookAnswer(422, "")]).health
        )

    assert (current.health.is_down, current.health.failing) == (False, ("a",))
    assert verdict_of_answers(current, [DOWN], NOW + 30 * DAY).status == "active"


def test_five_unreached_attempts_of_one_contact_open_circuit():
    current = subscription()

    for _ in range(5):
        assert not current.health.is_down
        current = msgspec.structs.replace(
            current, health=verdict_of_answers(current, [DOWN]).health
        )
    assert (current.health.is_down, current.health.pause_until) == (True, NOW + 5 * SECOND)
    assert [WebhookAnswer(status, "").fault for status in (None, 502, 503, 504)] == [
        "unreached"
    ] * 4
    assert [WebhookAnswer(status, "").fault for status in (400, 413, 422)] == ["rejected"] * 3
    assert [WebhookAnswer(status, "").fault for status in (301, 401, 404, 429, 500)] == [
        "failed"
    ] * 5


def test_message_expired_from_log_leaves_health_unchanged():
    down = subscription(health=ReceiverHealth(tuple("abcde"), 0, 3, NOW))
    sent = [[due_message(1, waiting=True)]]

    verdict = evaluate(down, {"a": [DeliveryAttempt(sent[0][0], OK, sent=False)]}, sent)

    assert (verdict.delivered, verdict.health) == (sent[0], down.health)


def test_retry_after_pauses_receiver_at_once():
    assert (
        verdict_of_answers(subscription(), [WebhookAnswer(429, "", 60 * SECOND)]).health.pause_until
        == NOW + 60 * SECOND
    )
    assert (
        verdict_of_answers(
            subscription(), [OK, WebhookAnswer(503, "", 60 * SECOND)]
        ).health.pause_until
        == NOW + 60 * SECOND
    )


def test_410_or_seven_failing_days_disable_subscription():
    assert (
        verdict_of_answers(subscription(), [GONE]).status,
        "410" in verdict_of_answers(subscription(), [GONE]).reason,
    ) == (
        "disabled",
        True,
    )

    failing = subscription(health=ReceiverHealth(tuple("abcde"), 0, 1, NOW))

    assert verdict_of_answers(failing, [DOWN], NOW + DISABLED_AFTER - 1).status == "active"
    assert verdict_of_answers(failing, [DOWN], NOW + DISABLED_AFTER).status == "disabled"
    assert verdict_of_answers(failing, [OK], NOW + DISABLED_AFTER).status == "active"


def test_old_message_expires_only_with_reachable_receiver():
    old_message = due_message(1, attempts=30, first_failed_at=NOW - 7 * DAY, waiting=True)
    sent = [[old_message], [due_message(2, "b")]]
    answers = {"a": [DeliveryAttempt(old_message, DOWN)], "b": [DeliveryAttempt(sent[1][0], OK)]}

    ((_, expired),) = evaluate(subscription(), answers, sent).failed

    assert expired

    younger_message = msgspec.structs.replace(old_message, first_failed_at=NOW - 7 * DAY + 1)
    ((_, expired),) = evaluate(
        subscription(), {"a": [DeliveryAttempt(younger_message, DOWN)]}, [[younger_message]]
    ).failed

    assert not expired

    failing = subscription(health=ReceiverHealth(tuple("abcde"), 0, 1, NOW - DAY))
    ((_, expired),) = evaluate(
        failing, {"a": [DeliveryAttempt(old_message, DOWN)]}, [[old_message]]
    ).failed

    assert not expired


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=12),
    st.randoms(use_true_random=False),
)
def test_no_message_is_lost_or_reordered(rows, chance):
    """Each message is delivered, retried or queued behind exactly once, in order by contact."""
    waiting = [
        due_message(n, key, waiting=True, due_at=NOW + delay)
        for n, (key, delay, is_waiting) in enumerate(rows)
        if is_waiting
    ]
    blocked = {message.key for message in waiting}
    fresh = [
        due_message(len(rows) + n, key)
        for n, (key, _, is_waiting) in enumerate(rows)
        if not is_waiting
    ]
    chains, behind = plan_chains(waiting, fresh, blocked, NOW)
    attempts = {}
    for chain in chains:
        successes = chance.randint(0, len(chain) - 1)
        answers = [OK] * successes + [chance.choice([OK, DOWN])]
        attempts[chain[0].key] = [
            DeliveryAttempt(message, answer)
            for message, answer in zip(chain, answers, strict=False)
        ]
        if answers[-1] == OK:
            attempts[chain[0].key] = [DeliveryAttempt(message, OK) for message in chain]
    verdict = evaluate(subscription(), attempts, chains)

    failed = [message for message, _ in verdict.failed]
    delivered = positions(verdict.delivered)
    undelivered = positions(waiting) - delivered

    undelivered |= positions([*failed, *verdict.behind, *behind])

    assert undelivered | delivered == positions([*waiting, *fresh])
    assert not undelivered & delivered
    for key in "abc":
        in_order = [message for message in (*waiting, *fresh) if message.key == key]
        states = [message.log_position in delivered for message in in_order]
        assert states == sorted(states, reverse=True)


def positions(messages):
    return {message.log_position for message in messages}
