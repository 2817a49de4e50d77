"""Plays that wait, end, change and stand still, on a real database."""

import asyncio

import msgspec
import pytest
import yaml

from libs.common.errors import ConfigurationError, Conflict, NotFound
from libs.common.messages import Cause, StageChange, StageMove
from services.orchestrator.domain.gate import Rules
from tests.integration.plays.people import people, published, signal
from tests.support.orchestrator import Orchestrator
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, START, identify, touchpoint

NOW = START + 2 * DAY


def mail(name="mail", **more):
    return {"action": name, "channel": "email", "mail": {"subject": name, "text": "t {{ unsubscribe_url }}"}, **more}


def play(steps, name="quote", **more):
    whole = {"play": name, "trigger": {"signal": "quote_requested"}, "re_entry": "always", **more, "steps": steps}
    return yaml.safe_dump(whole, sort_keys=False)


async def runs(orchestrator):
    return await orchestrator.fetch(
        "SELECT play, number, status, reason FROM orchestrator.enrollments ORDER BY entered_at, 1, 2"
    )


async def test_a_wait_ends_to_the_microsecond(orchestrator, database, mailbox):
    ids = await people(orchestrator, ["ada"])
    await orchestrator.publish(play([mail("first"), {"wait": "2d"}, mail("second")]))
    await orchestrator.hear([signal(ids["ada"], at=NOW)])
    await orchestrator.run()
    assert len(mailbox.mails) == 1
    orchestrator.clock.instant = NOW + 2 * DAY - 1
    await orchestrator.run()
    assert len(mailbox.mails) == 1
    orchestrator.clock.instant += 1
    await orchestrator.run()
    assert len(mailbox.mails) == 2
    assert await runs(orchestrator) == [("quote", 1, "completed", "all steps done")]


async def test_an_exit_cancels_what_is_pending_and_says_so(orchestrator, database, mailbox):
    ids = await people(orchestrator, ["ada", "bob"])
    text = play([mail("first"), {"wait": "2d"}, mail("second")], exits=[{"signal": "order_completed"}])
    await orchestrator.publish(text)
    await orchestrator.hear([signal(ids[name], at=NOW) for name in ("ada", "bob")])
    await orchestrator.hear([signal(ids["ada"], "order_completed", NOW + 1, 1)])
    await orchestrator.run()
    assert mailbox.told == ["bob@x.test"]
    assert sorted(await orchestrator.ledger()) == [
        ("sent", "accepted by the server"),
        ("skipped", "exit: order_completed"),
    ]
    assert sorted(r[2:] for r in await runs(orchestrator)) == [("active", ""), ("exited", "exit: order_completed")]
    orchestrator.clock.instant = NOW + 3 * DAY
    await orchestrator.run()
    assert mailbox.told == ["bob@x.test"] * 2


async def test_an_exit_that_commits_between_due_and_send_means_not_sent(database, mailbox, orchestrator):
    """Ten times over, side by side with sixteen who send: never both an exit before the reservation and a mail."""
    names = [f"p{number}" for number in range(40)]
    ids = await people(orchestrator, names)
    await orchestrator.publish(play([mail()], exits=[{"signal": "order_completed"}]))
    await orchestrator.hear([signal(ids[name], at=NOW) for name in names])
    others = [Orchestrator(database, mailbox) for _ in range(3)]

    async def leave():
        for name in names[::2]:
            await orchestrator.hear([signal(ids[name], "order_completed", NOW + 1, 1)])

    async def send(one):
        for _ in range(30):
            await one.send()

    await asyncio.gather(leave(), *(send(one) for one in others))
    rows = await orchestrator.fetch("SELECT contact_id, status FROM orchestrator.actions")
    gone = {contact for contact, status in rows if status == "skipped"}
    sent = {contact for contact, status in rows if status == "sent"}
    assert gone | sent == set(ids.values())
    assert sorted(mailbox.told) == sorted(f"{name}@x.test" for name in names if ids[name] in sent)
    assert {ids[name] for name in names[1::2]} <= sent
    for one in others:
        await one.close()


async def test_a_step_back_seen_by_scoring_ends_a_run_though_no_event_told(orchestrator, database, mailbox):
    """What holds is read when it is decided: a condition needs no event."""
    scoring = Scoring(database)
    await scoring.take([identify(0, consent={"marketing": True}, traits={"email": "ada@x.test"})])
    await scoring.take([touchpoint(HOUR, "Newsletter Subscribed", user_id="u")])
    ((contact,),) = await scoring.fetch("SELECT DISTINCT contact_id FROM scoring.touchpoints")
    await orchestrator.publish(play([{"wait": "1d"}, mail()], exits=[{"when": {"stage": "customer"}}]))
    await orchestrator.hear([signal(contact, at=NOW)])
    await scoring.take([touchpoint(3 * HOUR, "Order Completed", user_id="u")])
    await scoring.close()
    orchestrator.clock.instant = NOW + DAY
    await orchestrator.run()
    assert mailbox.mails == []
    ((_, _, status, reason),) = await runs(orchestrator)
    assert (status, reason) == ("exited", 'exit: {"stage":"customer"}')


async def test_conditions_read_scores_stages_and_axes_as_scoring_keeps_them(orchestrator, database, mailbox):
    scoring = Scoring(database)
    await scoring.take([identify(0, consent={"marketing": True}, traits={"email": "ada@x.test", "country": "FR"})])
    await scoring.take([touchpoint(HOUR, "Content Downloaded", user_id="u")])
    ((contact,),) = await scoring.fetch("SELECT DISTINCT contact_id FROM scoring.touchpoints")
    await scoring.close()
    branch = [
        {"when": {"score": "interest", "at_least": 8.5}, "steps": [mail("too-much")]},
        {"when": {"all": [{"score": "interest", "at_least": 6}, {"axis": "buying", "at_least": "investigation"},
                          {"stage": "lead"}, {"trait": "country", "equals": "FR"},
                          {"silent": "any", "for": "1d"}, {"not": {"silent": "any", "for": "2d"}}]},
         "steps": [mail("right")]},
    ]  # fmt: skip
    await orchestrator.publish(play([{"branch": branch, "otherwise": [mail("other")]}]))
    await orchestrator.hear([signal(contact, at=NOW)])
    assert await orchestrator.fetch("SELECT step FROM orchestrator.actions") == [("right",)]


async def test_who_is_in_a_version_stays_in_it(orchestrator, database, mailbox):
    ids = await people(orchestrator, ["ada", "bob"])
    assert await orchestrator.publish(play([{"wait": "1d"}, mail("old")])) == 1
    await orchestrator.hear([signal(ids["ada"], at=NOW)])
    assert await orchestrator.publish(play([mail("new")])) == 2
    assert await orchestrator.publish(play([mail("new")])) == 2, "the same text is the same version"
    await orchestrator.hear([signal(ids["bob"], at=NOW)])
    orchestrator.clock.instant = NOW + DAY
    await orchestrator.run()
    assert sorted(r[0] for r in await orchestrator.fetch("SELECT step FROM orchestrator.actions")) == ["new", "old"]
    assert sorted(mailbox.told) == ["ada@x.test", "bob@x.test"]
    assert await orchestrator.desk.roll_back("default", "quote") == 1
    await orchestrator.hear([signal(ids["bob"], at=NOW + 1, number=1)])
    assert sorted(r[1] for r in await runs(orchestrator)) == [1, 1, 2]
    with pytest.raises(NotFound, match="no version 7"):
        await orchestrator.desk.roll_back("default", "quote", 7)


async def test_a_paused_play_stands_still_and_goes_on(orchestrator, database, mailbox):
    ids = await people(orchestrator, ["ada", "bob"])
    await orchestrator.publish(play([mail("first"), {"wait": "1d"}, mail("second")]))
    await orchestrator.hear([signal(ids["ada"], at=NOW)])
    await orchestrator.desk.pause("default", "quote", on=True)
    await orchestrator.hear([signal(ids["bob"], at=NOW)])
    orchestrator.clock.instant = NOW + DAY
    await orchestrator.run()
    assert mailbox.mails == []
    assert await orchestrator.ledger() == [("held", "play_paused")]
    assert [r[0] for r in await runs(orchestrator)] == ["quote"], "nobody enters it"
    await orchestrator.desk.pause("default", "quote", on=False)
    await orchestrator.run()
    assert mailbox.told == ["ada@x.test"] * 2


async def test_the_kill_switch_holds_everything_and_nothing_is_lost(orchestrator, database, mailbox):
    ids = await people(orchestrator, ["ada"])
    await orchestrator.publish(play([mail()]))
    await orchestrator.desk.stop("default", "email", "ops", on=True)
    await orchestrator.hear([signal(ids["ada"], at=NOW)])
    await orchestrator.run()
    assert (mailbox.mails, await orchestrator.ledger()) == ([], [("held", "kill_switch")])
    assert await orchestrator.desk.stopped("default") == ["email"]
    await orchestrator.desk.stop("default", "email", "ops", on=False)
    await orchestrator.run()
    assert mailbox.told == ["ada@x.test"]


async def test_the_same_cause_enters_once_however_often_it_is_heard(orchestrator, database, mailbox):
    ids = await people(orchestrator, ["ada"])
    await orchestrator.publish(play([mail()]))
    for _ in range(3):
        await orchestrator.hear([signal(ids["ada"], at=NOW)] * 2)
    await orchestrator.run()
    assert len(mailbox.mails) == 1


async def test_one_cause_under_two_ids_that_become_one_enters_once(orchestrator, database, mailbox):
    """A merge moves runs, caps and exposures to the survivor."""
    scoring = Scoring(database)
    await scoring.take([identify(0, "u", "phone", traits={"email": "a@x.test"}, consent={"marketing": True})])
    await scoring.take([touchpoint(HOUR, anonymous_id="laptop")])
    ((device,),) = await scoring.fetch("SELECT contact_id FROM scoring.touchpoints WHERE subject IS NULL")
    ((person,),) = await scoring.fetch("SELECT contact_id FROM scoring.identifiers WHERE type = 'user_id'")
    await orchestrator.hear(await published(scoring))
    await orchestrator.publish(play([{"wait": "1d"}, mail()], re_entry="never"))
    await orchestrator.hear([signal(device, at=NOW)])
    await scoring.take([identify(2 * HOUR, "u", "laptop")])
    await scoring.close()
    await orchestrator.hear([signal(person, at=NOW + 1, number=1), signal(device, at=NOW + 1, number=1)])
    orchestrator.clock.instant = NOW + DAY
    await orchestrator.run()
    assert [r[2] for r in await runs(orchestrator)] == ["completed"]
    assert mailbox.told == ["a@x.test"]


async def test_a_goal_is_counted_also_for_those_held_out(orchestrator, database, mailbox):
    names = [f"p{number}" for number in range(60)]
    ids = await people(orchestrator, names)
    await orchestrator.publish(play([mail()], holdout=0.4, goal={"signal": "order_completed", "within": "5d"}))
    await orchestrator.hear([signal(ids[name], at=NOW) for name in names])
    await orchestrator.run()
    held = await orchestrator.fetch("SELECT contact_id FROM orchestrator.enrollments WHERE status = 'holdout'")
    assert 10 < len(held) < 40
    assert len(mailbox.mails) == 60 - len(held)
    await orchestrator.hear([signal(ids[name], "order_completed", NOW + DAY, 1) for name in names[:30]])
    await orchestrator.hear([signal(ids[name], "order_completed", NOW + 6 * DAY, 2) for name in names[30:]])
    impact = {one.group: one for one in await orchestrator.desk.impact("default", "quote")}
    assert impact["held out"].entered == len(held)
    assert impact["held out"].reached + impact["version 1"].reached == 30
    assert impact["version 1"].low < impact["version 1"].rate < impact["version 1"].high
    told = await orchestrator.fetch("SELECT value FROM orchestrator.outbox WHERE topic = 'actions'")
    assert [msgspec.json.decode(r[0])["status"] for r in told].count("holdout") == len(held)


async def test_a_move_starts_a_play_and_another_ends_it(orchestrator, database, mailbox):
    ids = await people(orchestrator, ["ada"])
    trigger = {"stage_change": {"to": "visitor", "direction": "regression"}}
    text = play([{"wait": "1d"}, mail()], trigger=trigger, exits=[{"stage_change": {"direction": "re_entry"}}])
    await orchestrator.publish(text)

    def move(number, direction, at):
        change = StageChange(
            id=f"c{number}", workspace="default", contact_id=ids["ada"], cycle="engagement", cycle_version="1",
            sequence=number, occurred_at=at, direction=direction, stage=StageMove("lead", "visitor"), axes={}, dormant=False,
            instance="i", reason="time", cause=Cause("time", at), values={},
        )  # fmt: skip
        return msgspec.json.encode(change)

    await orchestrator.hear([move(1, "regression", NOW)], "stage-changes")
    assert [r[2] for r in await runs(orchestrator)] == ["active"]
    await orchestrator.hear([move(2, "re_entry", NOW + 5)], "stage-changes")
    assert [r[2:] for r in await runs(orchestrator)] == [("exited", "exit: lead to visitor")]
    orchestrator.clock.instant = NOW + 2 * DAY
    await orchestrator.run()
    assert mailbox.mails == []


async def test_why_not_says_what_became_of_everything(orchestrator, database, mailbox):
    ids = await people(orchestrator, ["ada"])
    await orchestrator.publish(play([mail(), {"wait": "9d"}, mail("later")], exits=[{"signal": "order_completed"}]))
    await orchestrator.hear([signal(ids["ada"], at=NOW)])
    await orchestrator.hear([signal(ids["ada"], "order_completed", NOW + 1, 1)])
    for who in ("ada", ids["ada"], "ADA@x.test"):
        found = await orchestrator.why.of("default", who)
        assert [(d.step, d.status, d.reason) for d in found.decisions] == [("mail", "skipped", "exit: order_completed")]
        assert [(r.play, r.status) for r in found.plays] == [("quote", "exited")]
    with pytest.raises(NotFound):
        await orchestrator.why.of("default", "nobody")


async def test_a_template_that_misses_something_holds_the_action_until_it_is_there(orchestrator, database, mailbox):
    ids = await people(orchestrator, ["ada"])
    broken = mail(mail={"subject": "Hi {{ contact.firstName }}", "text": "t"})
    await orchestrator.publish(play([broken]))
    await orchestrator.hear([signal(ids["ada"], at=NOW)])
    await orchestrator.run()
    ((status, reason),) = await orchestrator.ledger()
    assert (status, reason.startswith("template:"), "firstName" in reason) == ("held", True, True)
    assert mailbox.mails == []


async def test_what_a_play_names_cannot_be_removed(orchestrator):
    await orchestrator.desk.define("default", "segment", "segment: fans\nwhen: {stage: customer}", "test", "fans.yaml")
    await orchestrator.publish(play([mail()], entry={"segment": "fans"}))
    with pytest.raises(Conflict, match="quote .version 1."):
        await orchestrator.desk.undefine("default", "segment", "fans")
    with pytest.raises(ConfigurationError, match=r"fans.yaml:2: when: cycle engagement has no stage 'king'"):
        await orchestrator.desk.define("default", "segment", "segment: fans\nwhen: {stage: king}", "test", "fans.yaml")
    with pytest.raises(ConfigurationError, match="no segment 'kings'"):
        await orchestrator.publish(play([mail()], entry={"segment": "kings"}))
    secret = (
        "destination: crm\nchannel: webhook\nurl: https://crm.example/x\nsecret: whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
    )
    await orchestrator.desk.define("default", "destination", secret, "test", "crm.yaml")
    shown = await orchestrator.desk.definitions("default")
    assert not [one for one in shown if "whsec" in one["text"]]


async def test_a_run_that_ends_by_a_step_sends_what_it_had_come_by(orchestrator, mailbox):
    ids = await people(orchestrator, ["ada"])
    await orchestrator.publish(play([{"wait": "1h"}, mail("reminder"), {"exit": "no order"}]))
    await orchestrator.hear([signal(ids["ada"], at=NOW)])
    orchestrator.clock.instant = NOW + HOUR
    await orchestrator.run()
    assert mailbox.told == ["ada@x.test"]
    assert [r[2:] for r in await runs(orchestrator)] == [("completed", "no order")]


async def test_one_contacts_trait_stops_nobody_elses_mail(orchestrator, mailbox):
    odd = await people(orchestrator, ["odd"], traits={"d": "9999999999999999"})
    ids = await people(orchestrator, ["ada"], traits={"d": "2026-01-01"})
    await orchestrator.publish(play([mail(mail={"subject": "{{ contact.d | date: '%Y' }}", "text": "t"})]))
    await orchestrator.hear([signal(odd["odd"], at=NOW), signal(ids["ada"], at=NOW)])
    await orchestrator.run()
    assert mailbox.told == ["ada@x.test"]
    assert sorted(status for status, _ in await orchestrator.ledger()) == ["held", "sent"]


async def test_a_move_that_was_heard_before_its_trigger_or_with_it_ends_the_run(orchestrator, mailbox, database):
    """Topics have no order between them, and a batch has many of one contact."""
    ids = await people(orchestrator, ["ada", "bob"])
    text = play(
        [mail()],
        trigger={"stage_change": {"direction": "regression"}},
        exits=[{"stage_change": {"direction": "advance"}}],
    )
    await orchestrator.publish(text)

    def move(contact, number, direction):
        change = StageChange(
            id=f"{contact}-{number}", workspace="default", contact_id=contact, cycle="engagement", cycle_version="1",
            sequence=number, occurred_at=NOW + number, direction=direction, stage=StageMove("lead", "visitor"), axes={},
            dormant=False, instance="i", reason="time", cause=Cause("time", NOW), values={},
        )  # fmt: skip
        return msgspec.json.encode(change)

    both = [move(ids["ada"], 1, "regression"), move(ids["ada"], 2, "advance"), move(ids["bob"], 1, "regression")]
    await orchestrator.hear(both, "stage-changes")
    await orchestrator.run()
    assert mailbox.told == ["bob@x.test"]
    assert sorted(r[2:] for r in await runs(orchestrator)) == [
        ("completed", "all steps done"), ("exited", "exit: lead to visitor"),
    ]  # fmt: skip


async def test_a_retry_past_midnight_counts_on_its_own_day(database, mailbox):
    found = Orchestrator(database, mailbox, Rules(cap_per_day=1, cap_per_week=9))
    await found.install()
    ids = await people(found, ["ada"])
    await found.publish(play([mail("one")], "one"))
    await found.publish(play([mail("two")], "two", trigger={"signal": "trial_started"}))
    midnight = NOW - NOW % DAY + DAY
    found.clock.instant = midnight - 60_000_000
    mailbox.answers = ["451 later"]
    await found.hear([signal(ids["ada"], at=found.clock.instant)])
    await found.run()
    found.clock.instant = midnight + 1
    await found.fetch("UPDATE orchestrator.actions SET due_at = $1::bigint RETURNING 1", midnight + HOUR)
    await found.hear([signal(ids["ada"], "trial_started", midnight + 1, 1)])
    await found.run()
    found.clock.instant = midnight + HOUR
    await found.run()
    assert len(mailbox.mails) == 1, "one a day"
    assert sorted(status for status, _ in await found.ledger()) == ["capped", "sent"]
    await found.close()


async def test_what_a_late_attempt_came_to_changes_nothing_that_was_decided_since(orchestrator, mailbox):
    ids = await people(orchestrator, ["ada"])
    await orchestrator.publish(play([mail()]))
    await orchestrator.hear([signal(ids["ada"], at=NOW)])
    plain = orchestrator.email.send

    async def slow(letter):
        found = await plain(letter)
        await orchestrator.fetch(
            "UPDATE orchestrator.actions SET status = 'in_doubt', reason = 'another process' RETURNING 1"
        )
        return found

    orchestrator.email.send = slow
    await orchestrator.send()
    assert await orchestrator.ledger() == [("in_doubt", "another process")]


async def test_a_paused_play_keeps_each_its_wait(orchestrator, mailbox):
    ids = await people(orchestrator, ["ada"])
    await orchestrator.publish(play([{"wait": "2d"}, mail()]))
    await orchestrator.hear([signal(ids["ada"], at=NOW)])
    await orchestrator.desk.pause("default", "quote", on=True)
    orchestrator.clock.instant = NOW + DAY
    await orchestrator.run()
    await orchestrator.desk.pause("default", "quote", on=False)
    assert await orchestrator.fetch("SELECT due_at FROM orchestrator.enrollments") == [(NOW + 2 * DAY,)]
    orchestrator.clock.instant = NOW + 2 * DAY
    await orchestrator.run()
    assert mailbox.told == ["ada@x.test"]
