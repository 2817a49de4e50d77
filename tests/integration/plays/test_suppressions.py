"""Who bounced, complained or unsubscribed at the mail provider gets nothing more of any play, until somebody lets them."""

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


async def ask(orchestrator, contact, number):
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
async def test_what_a_mail_provider_tells_ends_the_mails_of_every_play(
    orchestrator, mailbox, two_plays, event, initiative, reason
):
    scoring = Scoring(orchestrator.database)
    told = touchpoint(
        HOUR, event, user_id=None, anonymous_id=None, verified_email="ada@x.test", initiative=initiative, trust="server",
        properties={"email_sha256": sha256(b"ada@x.test").hexdigest()},
    )  # fmt: skip
    forged = touchpoint(HOUR, event, number="forged", user_id="ada", initiative=initiative)
    await scoring.ingest([forged])
    assert await read_published(scoring) == [], "who writes to the public door ends nobody's mails"
    await scoring.ingest([told])
    heard = await read_published(scoring)
    await orchestrator.consume(heard)
    await ask(orchestrator, two_plays, 1)
    assert await orchestrator.action_states() == [("suppressed", reason)] * 2, (
        "though ada's address is one that she gave herself"
    )
    assert mailbox.mails == []
    await scoring.ingest(
        [identify(HOUR, "ada", None, number="new", traits={"email": "ada@new.test"})]
    )
    await ask(orchestrator, two_plays, 3)
    under_another = {status for status, _ in (await orchestrator.action_states())[2:]}
    assert (len(mailbox.mails) == 2) is (reason == "bounced"), (
        "a bounce is about the address, a complaint about the person"
    )
    assert under_another
    await scoring.ingest(
        [identify(2 * HOUR, "ada", None, number="back", traits={"email": "ada@x.test"})]
    )
    mailbox.mails.clear()
    await SuppressionService(orchestrator.sessions[0], orchestrator.playbook).allow(
        "default", "ada", "email"
    )
    await orchestrator.consume(heard)
    await ask(orchestrator, two_plays, 2)
    assert len(mailbox.mails) == 2, "what was heard before is no news"
    await scoring.close()


async def test_a_new_address_may_be_written_to(orchestrator, mailbox, two_plays):
    mailbox.answers = ["550 5.1.1 no such user"] * 2
    await ask(orchestrator, two_plays, 1)
    scoring = Scoring(orchestrator.database)
    await scoring.ingest(
        [identify(HOUR, "ada", None, number="new", traits={"email": "ada@new.test"})]
    )
    await scoring.close()
    await ask(orchestrator, two_plays, 2)
    assert mailbox.recipients == ["ada@new.test"] * 2


async def test_a_sender_that_is_refused_is_ours_to_mend_and_suppresses_nobody(
    orchestrator, mailbox, two_plays
):
    mailbox.refuses_sender = True
    await ask(orchestrator, two_plays, 1)
    assert {status for status, _ in await orchestrator.action_states()} == {"pending"}
    mailbox.refuses_sender = False
    orchestrator.clock.instant += HOUR
    await orchestrator.run_due()
    assert len(mailbox.mails) == 2


async def test_an_address_that_the_server_says_does_not_exist_is_asked_once(
    orchestrator, mailbox, two_plays
):
    mailbox.answers = ["550 5.1.1 no such user"]
    await ask(orchestrator, two_plays, 1)
    await ask(orchestrator, two_plays, 2)
    assert sorted(await orchestrator.action_states()) == [
        ("failed", "the server answered 550"),
        ("sent", "accepted by the server"),
        ("suppressed", "bounced"),
        ("suppressed", "bounced"),
    ], "the two that were under way, then none"


async def test_a_refusal_of_the_letter_says_nothing_of_the_address(
    orchestrator, mailbox, two_plays
):
    mailbox.answers = ["554 5.7.1 looks like spam"] * 2
    await ask(orchestrator, two_plays, 1)
    await ask(orchestrator, two_plays, 2)
    assert sorted({status for status, _ in await orchestrator.action_states()}) == [
        "failed",
        "sent",
    ]


async def test_somebody_may_be_written_to_again_and_why_not_says_what_holds(
    orchestrator, mailbox, two_plays
):
    desk = SuppressionService(orchestrator.sessions[0], orchestrator.playbook)
    with pytest.raises(NotFound, match="not suppressed"):
        await desk.allow("default", "ada", "email")
    await desk.suppress(two_plays, "email")
    told = await orchestrator.why.get_decisions("default", "ada")
    assert (told.suppressed, told.consents) == ({"email": "unsubscribed"}, {"marketing": True})
    await desk.allow("default", "ada@x.test", "email")
    await ask(orchestrator, two_plays, 1)
    assert len(mailbox.mails) == 2
