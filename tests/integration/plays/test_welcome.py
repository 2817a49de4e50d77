"""The welcome play on a real database and a real SMTP server."""

import asyncio
from datetime import time

import msgspec
import pytest

from libs.common.db.connection import connect
from libs.common.messages import Signal
from services.orchestrator.channels.email import EmailChannel
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.domain.unsubscribe_token import verify_token
from services.orchestrator.repository import consents
from tests.integration.plays.contacts import make_subscriber
from tests.support.orchestrator import SECRET, Orchestrator
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, identify, touchpoint


async def test_subscriber_with_consent_gets_one_mail(orchestrator, database, mailbox):
    signals = await make_subscriber(database)

    assert await orchestrator.consume(signals) == 0

    await orchestrator.run_due()
    (mail,) = mailbox.mails
    content = mail.content.decode()
    assert mail.rcpt_tos == ["ada@x.test"]
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in content
    assert "https://x.test/u/" in content
    assert await orchestrator.action_states() == [("sent", "accepted by the server")]
    assert await orchestrator.delivery_outcomes() == ["delivered"]

    (action,) = await orchestrator.fetch(
        "SELECT value FROM orchestrator.outbox WHERE topic = 'actions'"
    )
    assert msgspec.json.decode(action[0])["status"] == "sent"

    (echo,) = await orchestrator.fetch("SELECT body FROM orchestrator.echoes")
    call = msgspec.json.decode(echo[0])

    assert (call["userId"], call["context"]["initiative"]) == ("u", "brand")


async def test_repeated_signals_send_no_second_mail(orchestrator, database, mailbox):
    signals = await make_subscriber(database)
    await orchestrator.consume(signals)
    await orchestrator.consume(signals)
    another = msgspec.json.decode(signals[-1], type=Signal)
    await orchestrator.consume(
        [msgspec.json.encode(msgspec.structs.replace(another, id="other", message_id="other"))]
    )

    for _ in range(3):
        await orchestrator.run_due()

    assert len(mailbox.mails) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"consent": None}, ("suppressed", "no_consent")),
        ({"consent": False}, ("suppressed", "consent_withdrawn")),
        ({"email": None}, ("skipped", "no_address")),
        ({"email": "not an address"}, ("failed", "not a valid mail: not one plain address")),
    ],
)
async def test_unsent_action_has_its_reason(orchestrator, database, mailbox, fields, expected):
    await orchestrator.consume(await make_subscriber(database, **fields))
    await orchestrator.run_due()

    assert await orchestrator.action_states() == [expected]
    assert mailbox.mails == []

    (message,) = await orchestrator.fetch(
        "SELECT value FROM orchestrator.outbox WHERE topic = 'actions'"
    )

    assert msgspec.json.decode(message[0])["status"] == expected[0]


async def test_unsubscribed_contact_gets_no_mail(orchestrator, database, mailbox):
    await orchestrator.consume(await make_subscriber(database))
    ((contact,),) = await orchestrator.fetch("SELECT DISTINCT contact_id FROM orchestrator.actions")
    async with orchestrator.sessions[0].acquire() as connection:
        await consents.insert_suppressions(connection, [(contact, "email", "unsubscribed")])

    await orchestrator.run_due()

    assert await orchestrator.action_states() == [("suppressed", "unsubscribed")]
    assert mailbox.mails == []


async def test_unsubscribe_link_names_its_contact(orchestrator, database, mailbox):
    await orchestrator.consume(await make_subscriber(database))
    await orchestrator.run_due()
    header = next(line for line in mailbox.mails[0].content.decode().splitlines() if "/u/" in line)
    token = header.split("/u/")[1].split(">")[0].split("\r")[0]

    ((contact,),) = await orchestrator.fetch("SELECT DISTINCT contact_id FROM orchestrator.actions")

    assert verify_token(SECRET, token.strip()) in ((contact, "email"), None)


async def test_quiet_hours_hold_action(database, mailbox):
    orchestrator = Orchestrator(
        database, mailbox, GateRules(quiet_from=time(0), quiet_to=time(23, 59))
    )
    await orchestrator.install()
    await orchestrator.consume(await make_subscriber(database))
    await orchestrator.run_due()
    assert await orchestrator.action_states() == [("held", "quiet_hours")]
    orchestrator.clock.instant += DAY
    await orchestrator.run_due()
    assert (await orchestrator.action_states())[0][0] == "held"
    await orchestrator.close()


async def test_cap_counts_across_actions(database, mailbox):
    orchestrator = Orchestrator(database, mailbox, GateRules(cap_per_day=1))
    await orchestrator.install()
    await orchestrator.consume(await make_subscriber(database))
    await orchestrator.fetch("SELECT 1")
    connection = await connect(database, application="test")
    await connection.execute(
        "INSERT INTO orchestrator.caps SELECT contact_id, 'email', $1, 1 FROM orchestrator.actions",
        orchestrator.clock.now() // DAY,
    )
    await connection.close()

    await orchestrator.run_due()

    assert await orchestrator.action_states() == [("capped", "cap_of_1_per_day")]

    await orchestrator.close()


async def test_transient_refusal_is_retried(orchestrator, database, mailbox):
    mailbox.answers = ["451 later", "451 later"]
    await orchestrator.consume(await make_subscriber(database))

    for _ in range(3):
        await orchestrator.run_due()
        orchestrator.clock.instant += HOUR

    assert await orchestrator.action_states() == [("sent", "accepted by the server")]
    assert await orchestrator.delivery_outcomes() == ["retried", "retried", "delivered"]


async def test_permanent_refusal_fails(orchestrator, database, mailbox):
    mailbox.answers = ["550 never"]
    await orchestrator.consume(await make_subscriber(database))

    await orchestrator.run_due()

    assert await orchestrator.action_states() == [("failed", "the server answered 550")]


async def test_absent_mail_server_is_retried(orchestrator, database, mailbox):
    listening, orchestrator.channels["email"] = (
        orchestrator.email,
        EmailChannel("smtp://127.0.0.1:1", "a@x.test"),
    )
    await orchestrator.consume(await make_subscriber(database))

    await orchestrator.run_due()

    assert (await orchestrator.action_states())[0][0] == "pending"
    assert await orchestrator.delivery_outcomes() == ["retried"]

    orchestrator.channels["email"] = listening
    orchestrator.clock.instant += HOUR
    await orchestrator.run_due()

    assert (await orchestrator.action_states())[0][0] == "sent"


async def test_connection_lost_after_body_is_in_doubt(orchestrator, database, mailbox):
    mailbox.drop_after_data = True
    await orchestrator.consume(await make_subscriber(database))

    for _ in range(3):
        await orchestrator.run_due()
        orchestrator.clock.instant += HOUR

    assert (await orchestrator.action_states())[0][0] == "in_doubt"
    assert await orchestrator.delivery_outcomes() == ["unknown"]
    assert len(mailbox.mails) == 1


async def test_crash_after_reservation_leaves_action_in_doubt(orchestrator, database, mailbox):
    await orchestrator.consume(await make_subscriber(database))
    connection = await connect(database, application="test")
    await connection.execute(
        "UPDATE orchestrator.actions SET status = 'sending', attempts = 1, due_at = $1",
        orchestrator.clock.now(),
    )
    await connection.close()

    await orchestrator.run_due()

    assert await orchestrator.action_states() == [("in_doubt", "attempt_without_outcome")]
    assert mailbox.mails == []


async def test_two_dispatchers_send_each_mail_once(database, mailbox):
    scoring = Scoring(database)
    users = [f"u{n}" for n in range(40)]
    calls = []
    for n, user in enumerate(users):
        subscriber = {"user_id": user, "anonymous_id": None, "consent": {"marketing": True}}
        calls.append(identify(0, number=f"{n}-i", traits={"email": f"{user}@x.test"}, **subscriber))
        calls.append(touchpoint(HOUR, "Newsletter Subscribed", number=f"{n}-s", user_id=user))
    await scoring.ingest(calls)
    rows = await scoring.fetch(
        "SELECT value FROM scoring.outbox WHERE topic = 'signals' ORDER BY id"
    )
    await scoring.close()
    pair = [Orchestrator(database, mailbox) for _ in range(2)]
    await pair[0].install()
    await pair[0].consume([r[0] for r in rows])

    for _ in range(8):
        await asyncio.gather(*(o.dispatch_due() for o in pair))

    assert sorted(m.rcpt_tos[0] for m in mailbox.mails) == sorted(f"{u}@x.test" for u in users)

    for o in pair:
        await o.close()


async def test_malformed_signal_is_dead_letter(orchestrator):
    assert await orchestrator.consume([b"{", b"{}", None]) == 3

    rows = await orchestrator.fetch(
        "SELECT value FROM orchestrator.outbox WHERE topic = 'orchestrator-dlq' ORDER BY id"
    )

    assert [r[0] for r in rows] == [b"{", b"{}", None]


async def test_latest_consent_wins_in_any_order(orchestrator, database):
    await make_subscriber(database)
    async with orchestrator.sessions[0].acquire() as connection:
        for granted, at in ((True, 5), (False, 9), (True, 7)):
            await consents.upsert_consents(
                connection, [("default", "c", "marketing", granted, at, "s")]
            )
        both = [("default", "d", "marketing", granted, 5, "s") for granted in (False, True)]
        await consents.upsert_consents(connection, both)

    assert await orchestrator.fetch(
        "SELECT contact_id, granted FROM orchestrator.consents ORDER BY 1"
    ) == [("c", False), ("d", False)]


async def test_suppression_survives_merge(orchestrator, database, mailbox):
    scoring = Scoring(database)
    traits = {"email": "ada@x.test"}
    await scoring.ingest([identify(0, "u", "phone", traits=traits, consent={"marketing": True})])
    await scoring.ingest([touchpoint(HOUR, anonymous_id="laptop")])
    ((anonymous,),) = await scoring.fetch(
        "SELECT contact_id FROM scoring.touchpoints WHERE subject IS NULL"
    )
    async with orchestrator.sessions[0].acquire() as connection:
        await consents.insert_suppressions(connection, [(anonymous, "email", "unsubscribed")])
    await scoring.ingest(
        [
            identify(2 * HOUR, "u", "laptop"),
            touchpoint(3 * HOUR, "Newsletter Subscribed", user_id="u"),
        ]
    )
    rows = await scoring.fetch(
        "SELECT value FROM scoring.outbox WHERE topic = 'signals' ORDER BY id"
    )
    await scoring.close()
    await orchestrator.consume([r[0] for r in rows])

    await orchestrator.run_due()

    assert await orchestrator.action_states() == [("suppressed", "unsubscribed")]


async def test_retry_does_not_count_twice_for_cap(database, mailbox):
    mailbox.answers = ["451 later"]
    orchestrator = Orchestrator(database, mailbox, GateRules(cap_per_day=1))
    await orchestrator.install()
    await orchestrator.consume(await make_subscriber(database))
    await orchestrator.run_due()
    orchestrator.clock.instant += HOUR

    await orchestrator.run_due()

    assert await orchestrator.action_states() == [("sent", "accepted by the server")]

    await orchestrator.close()
