"""Suppressions: no mail of any play after a bounce, complaint or unsubscription, until allowed."""

from hashlib import sha256

import pytest

from libs.common.errors import NotFound
from services.orchestrator.handlers.suppressions import SuppressionService
from tests.integration.plays.contacts import make_contacts, read_published, signal_message
from tests.integration.plays.play_texts import NOW, mail, play
from tests.support.scoring import Scoring
from tests.support.touchpoints import HOUR, identify, touchpoint


@pytest.fixture
async def two_plays(orchestrator):
    ids = await make_contacts(orchestrator, ["ada"])
    for name in ("one", "two"):
        await orchestrator.publish(play([mail(name)], name))
    return ids["ada"]


async def request_quote(orchestrator, contact, number):
    await orchestrator.consume([signal_message(contact, at=NOW, number=number)])
    await orchestrator.run_due()


@pytest.mark.parametrize(
    ("event", "initiative", "reason"),
    [
        ("Email Bounced", "brand", "bounced"),
        ("Email Marked as Spam", "contact", "complained"),
        ("Unsubscribed", "contact", "unsubscribed"),
    ],
)
async def test_provider_event_suppresses_mails_of_every_play(
    orchestrator, mailbox, two_plays, event, initiative, reason
):
    scoring = Scoring(orchestrator.database)
    provider_event = touchpoint(
        HOUR,
        event,
        user_id=None,
        anonymous_id=None,
        verified_email="ada@x.test",
        initiative=initiative,
        trust="server",
        properties={"email_sha256": sha256(b"ada@x.test").hexdigest()},
    )
    forged = touchpoint(HOUR, event, number="forged", user_id="ada", initiative=initiative)

    await scoring.ingest([forged])

    assert await read_published(scoring) == [], "a public source suppressed a contact"

    await scoring.ingest([provider_event])
    signals = await read_published(scoring)
    await orchestrator.consume(signals)
    await request_quote(orchestrator, two_plays, 1)
    assert await orchestrator.action_states() == [("suppressed", reason)] * 2, (
        "a declared address was not suppressed"
    )
    assert mailbox.mails == []

    await scoring.ingest(
        [identify(HOUR, "ada", None, number="new", traits={"email": "ada@new.test"})]
    )
    await request_quote(orchestrator, two_plays, 3)
    statuses_of_new_address = {status for status, _ in (await orchestrator.action_states())[2:]}
    assert (len(mailbox.mails) == 2) is (reason == "bounced"), (
        "a bounce concerns the address, a complaint the contact"
    )
    assert statuses_of_new_address

    await scoring.ingest(
        [identify(2 * HOUR, "ada", None, number="back", traits={"email": "ada@x.test"})]
    )
    mailbox.mails.clear()
    await SuppressionService(orchestrator.sessions[0], orchestrator.play_registry).allow(
        "default", "ada", "email"
    )
    await orchestrator.consume(signals)
    await request_quote(orchestrator, two_plays, 2)

    assert len(mailbox.mails) == 2, "a repeated signal suppressed the contact again"

    await scoring.close()


async def test_new_address_after_bounce_gets_mail(orchestrator, mailbox, two_plays):
    mailbox.answers = ["550 5.1.1 no such user"] * 2
    await request_quote(orchestrator, two_plays, 1)
    scoring = Scoring(orchestrator.database)
    await scoring.ingest(
        [identify(HOUR, "ada", None, number="new", traits={"email": "ada@new.test"})]
    )
    await scoring.close()

    await request_quote(orchestrator, two_plays, 2)

    assert mailbox.recipients == ["ada@new.test"] * 2


async def test_refused_sender_suppresses_no_contact(orchestrator, mailbox, two_plays):
    mailbox.refuses_sender = True
    await request_quote(orchestrator, two_plays, 1)

    assert {status for status, _ in await orchestrator.action_states()} == {"pending"}

    mailbox.refuses_sender = False
    orchestrator.clock.instant += HOUR
    await orchestrator.run_due()

    assert len(mailbox.mails) == 2


async def test_unknown_address_is_suppressed_as_bounced(orchestrator, mailbox, two_plays):
    mailbox.answers = ["550 5.1.1 no such user"]
    await request_quote(orchestrator, two_plays, 1)

    await request_quote(orchestrator, two_plays, 2)

    assert sorted(await orchestrator.action_states()) == [
        ("failed", "the server answered 550"),
        ("sent", "accepted by the server"),
        ("suppressed", "bounced"),
        ("suppressed", "bounced"),
    ], "more than the two mails in flight were tried"


async def test_content_rejection_does_not_suppress_address(orchestrator, mailbox, two_plays):
    mailbox.answers = ["554 5.7.1 looks like spam"] * 2
    await request_quote(orchestrator, two_plays, 1)

    await request_quote(orchestrator, two_plays, 2)

    assert sorted({status for status, _ in await orchestrator.action_states()}) == [
        "failed",
        "sent",
    ]


async def test_allowed_contact_gets_mails_again(orchestrator, mailbox, two_plays):
    suppressions = SuppressionService(orchestrator.sessions[0], orchestrator.play_registry)

    with pytest.raises(NotFound, match="not suppressed"):
        await suppressions.allow("default", "ada", "email")

    await suppressions.suppress(two_plays, "email")
    history = await orchestrator.decision_history.get_decisions("default", "ada")
    assert (history.suppressed, history.consents) == (
        {"email": "unsubscribed"},
        {"marketing": True},
    )

    await suppressions.allow("default", "ada@x.test", "email")
    await request_quote(orchestrator, two_plays, 1)

    assert len(mailbox.mails) == 2
