"""Enrollments: waits, versions, causes, merges, retries."""

import pytest

from services.orchestrator.domain.gate import GateRules
from tests.integration.plays.contacts import make_contacts, read_published, signal_message
from tests.integration.plays.play_texts import NOW, enrollments, mail, play
from tests.support.orchestrator import Orchestrator
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, identify, touchpoint


async def test_wait_ends_to_the_microsecond(orchestrator, database, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(play([mail("first"), {"wait": "2d"}, mail("second")]))
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])

    await orchestrator.run_due()

    assert len(mailbox.mails) == 1

    orchestrator.clock.instant = NOW + 2 * DAY - 1
    await orchestrator.run_due()
    assert len(mailbox.mails) == 1

    orchestrator.clock.instant += 1
    await orchestrator.run_due()

    assert len(mailbox.mails) == 2
    assert await enrollments(orchestrator) == [("quote", 1, "completed", "all steps done")]


async def test_conditions_read_scores_stages_and_axes(orchestrator, database, mailbox):
    scoring = Scoring(database)
    await scoring.ingest(
        [identify(0, consent={"marketing": True}, traits={"email": "ada@x.test", "country": "FR"})]
    )
    await scoring.ingest([touchpoint(HOUR, "Content Downloaded", user_id="u")])
    ((contact,),) = await scoring.fetch("SELECT DISTINCT contact_id FROM scoring.touchpoints")
    await scoring.close()
    branch = [
        {"when": {"score": "interest", "at_least": 8.5}, "steps": [mail("too-much")]},
        {
            "when": {
                "all": [
                    {"score": "interest", "at_least": 6},
                    {"axis": "buying", "at_least": "investigation"},
                    {"stage": "lead"},
                    {"trait": "country", "equals": "FR"},
                    {"silent": "any", "for": "1d"},
                    {"not": {"silent": "any", "for": "2d"}},
                ]
            },
            "steps": [mail("right")],
        },
    ]
    await orchestrator.publish(play([{"branch": branch, "otherwise": [mail("other")]}]))

    await orchestrator.consume([signal_message(contact, at=NOW)])

    assert await orchestrator.fetch("SELECT step FROM orchestrator.actions") == [("right",)]


@pytest.mark.capability(42)
async def test_repeated_cause_enrolls_once(orchestrator, database, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(play([mail()]))
    for _ in range(3):
        await orchestrator.consume([signal_message(ids["ada"], at=NOW)] * 2)

    await orchestrator.run_due()

    assert len(mailbox.mails) == 1


async def test_cause_of_merged_contacts_enrolls_once(orchestrator, database, mailbox):
    """A merge moves enrollments, caps and exposures to the surviving contact."""
    scoring = Scoring(database)
    await scoring.ingest(
        [identify(0, "u", "phone", traits={"email": "a@x.test"}, consent={"marketing": True})]
    )
    await scoring.ingest([touchpoint(HOUR, anonymous_id="laptop")])
    ((anonymous,),) = await scoring.fetch(
        "SELECT contact_id FROM scoring.touchpoints WHERE subject IS NULL"
    )
    ((known,),) = await scoring.fetch(
        "SELECT contact_id FROM scoring.identifiers WHERE type = 'user_id'"
    )
    await orchestrator.consume(await read_published(scoring))
    await orchestrator.publish(play([{"wait": "1d"}, mail()], re_entry="never"))
    await orchestrator.consume([signal_message(anonymous, at=NOW)])
    await scoring.ingest([identify(2 * HOUR, "u", "laptop")])
    await scoring.close()
    await orchestrator.consume(
        [
            signal_message(known, at=NOW + 1, number=1),
            signal_message(anonymous, at=NOW + 1, number=1),
        ]
    )
    orchestrator.clock.instant = NOW + DAY

    await orchestrator.run_due()

    assert [r[2] for r in await enrollments(orchestrator)] == ["completed"]
    assert mailbox.recipients == ["a@x.test"]


async def test_invalid_trait_holds_only_its_contacts_mail(orchestrator, mailbox):
    odd = await make_contacts(orchestrator, ["odd"], traits={"d": "9999999999999999"})
    ids = await make_contacts(orchestrator, ["ada"], traits={"d": "2026-01-01"})
    await orchestrator.publish(
        play([mail(mail={"subject": "{{ contact.d | date: '%Y' }}", "text": "t"})])
    )
    await orchestrator.consume(
        [signal_message(odd["odd"], at=NOW), signal_message(ids["ada"], at=NOW)]
    )

    await orchestrator.run_due()

    assert mailbox.recipients == ["ada@x.test"]
    assert sorted(status for status, _ in await orchestrator.action_states()) == ["held", "sent"]


async def test_retry_past_midnight_counts_on_its_day(database, mailbox):
    orchestrator = Orchestrator(database, mailbox, GateRules(cap_per_day=1, cap_per_week=9))
    await orchestrator.install()
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(play([mail("one")], "one"))
    await orchestrator.publish(play([mail("two")], "two", trigger={"signal": "trial_started"}))
    midnight = NOW - NOW % DAY + DAY
    orchestrator.clock.instant = midnight - 60_000_000
    mailbox.answers = ["451 later"]
    await orchestrator.consume([signal_message(ids["ada"], at=orchestrator.clock.instant)])
    await orchestrator.run_due()
    orchestrator.clock.instant = midnight + 1
    await orchestrator.fetch(
        "UPDATE orchestrator.actions SET due_at = $1::bigint RETURNING 1", midnight + HOUR
    )
    await orchestrator.consume([signal_message(ids["ada"], "trial_started", midnight + 1, 1)])
    await orchestrator.run_due()
    orchestrator.clock.instant = midnight + HOUR

    await orchestrator.run_due()

    assert len(mailbox.mails) == 1, "more than one mail a day"
    assert sorted(status for status, _ in await orchestrator.action_states()) == ["capped", "sent"]

    await orchestrator.close()


async def test_late_attempt_does_not_overwrite_newer_status(orchestrator, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(play([mail()]))
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    send = orchestrator.email.send

    async def slow(rendered_message):
        outcome = await send(rendered_message)
        await orchestrator.fetch(
            "UPDATE orchestrator.actions SET status = 'in_doubt', reason = 'another process' "
            "RETURNING 1"
        )
        return outcome

    orchestrator.email.send = slow
    await orchestrator.dispatch_due()
    assert await orchestrator.action_states() == [("in_doubt", "another process")]
