"""What ends a run, and cancels what is pending."""

import asyncio

import msgspec

from libs.common.messages import Cause, StageChange, StageMove
from tests.integration.plays.contacts import make_contacts, signal_message
from tests.integration.plays.play_texts import NOW, mail, play, runs
from tests.support.orchestrator import Orchestrator
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, identify, touchpoint


async def test_an_exit_cancels_what_is_pending_and_says_so(orchestrator, database, mailbox):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    text = play(
        [mail("first"), {"wait": "2d"}, mail("second")], exits=[{"signal": "order_completed"}]
    )
    await orchestrator.publish(text)
    await orchestrator.consume([signal_message(ids[name], at=NOW) for name in ("ada", "bob")])
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW + 1, 1)])
    await orchestrator.run_due()
    assert mailbox.recipients == ["bob@x.test"]
    assert sorted(await orchestrator.action_states()) == [
        ("sent", "accepted by the server"),
        ("skipped", "exit: order_completed"),
    ]
    assert sorted(r[2:] for r in await runs(orchestrator)) == [
        ("active", ""),
        ("exited", "exit: order_completed"),
    ]
    orchestrator.clock.instant = NOW + 3 * DAY
    await orchestrator.run_due()
    assert mailbox.recipients == ["bob@x.test"] * 2


async def test_an_exit_that_commits_between_due_and_send_means_not_sent(
    database, mailbox, orchestrator
):
    """Ten times over, side by side with sixteen who send: never both an exit before the reservation and a mail."""
    names = [f"p{number}" for number in range(40)]
    ids = await make_contacts(orchestrator, names)
    await orchestrator.publish(play([mail()], exits=[{"signal": "order_completed"}]))
    await orchestrator.consume([signal_message(ids[name], at=NOW) for name in names])
    others = [Orchestrator(database, mailbox) for _ in range(3)]

    async def leave():
        for name in names[::2]:
            await orchestrator.consume([signal_message(ids[name], "order_completed", NOW + 1, 1)])

    async def send(one):
        for _ in range(30):
            await one.dispatch_due()

    await asyncio.gather(leave(), *(send(one) for one in others))
    rows = await orchestrator.fetch("SELECT contact_id, status FROM orchestrator.actions")
    gone = {contact for contact, status in rows if status == "skipped"}
    sent = {contact for contact, status in rows if status == "sent"}
    assert gone | sent == set(ids.values())
    assert sorted(mailbox.recipients) == sorted(
        f"{name}@x.test" for name in names if ids[name] in sent
    )
    assert {ids[name] for name in names[1::2]} <= sent
    for one in others:
        await one.close()


async def test_a_step_back_seen_by_scoring_ends_a_run_though_no_event_told(
    orchestrator, database, mailbox
):
    """What holds is read when it is decided: a condition needs no event."""
    scoring = Scoring(database)
    await scoring.ingest([identify(0, consent={"marketing": True}, traits={"email": "ada@x.test"})])
    await scoring.ingest([touchpoint(HOUR, "Newsletter Subscribed", user_id="u")])
    ((contact,),) = await scoring.fetch("SELECT DISTINCT contact_id FROM scoring.touchpoints")
    await orchestrator.publish(
        play([{"wait": "1d"}, mail()], exits=[{"when": {"stage": "customer"}}])
    )
    await orchestrator.consume([signal_message(contact, at=NOW)])
    await scoring.ingest([touchpoint(3 * HOUR, "Order Completed", user_id="u")])
    await scoring.close()
    orchestrator.clock.instant = NOW + DAY
    await orchestrator.run_due()
    assert mailbox.mails == []
    ((_, _, status, reason),) = await runs(orchestrator)
    assert (status, reason) == ("exited", 'exit: {"stage":"customer"}')


async def test_a_move_starts_a_play_and_another_ends_it(orchestrator, database, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    trigger = {"stage_change": {"to": "visitor", "direction": "regression"}}
    text = play(
        [{"wait": "1d"}, mail()],
        trigger=trigger,
        exits=[{"stage_change": {"direction": "re_entry"}}],
    )
    await orchestrator.publish(text)

    def move(number, direction, at):
        change = StageChange(
            id=f"c{number}", workspace="default", contact_id=ids["ada"], cycle="engagement", cycle_version="1",
            sequence=number, occurred_at=at, direction=direction, stage=StageMove("lead", "visitor"), axes={}, dormant=False,
            instance="i", reason="time", cause=Cause("time", at), values={},
        )  # fmt: skip
        return msgspec.json.encode(change)

    await orchestrator.consume([move(1, "regression", NOW)], "stage-changes")
    assert [r[2] for r in await runs(orchestrator)] == ["active"]
    await orchestrator.consume([move(2, "re_entry", NOW + 5)], "stage-changes")
    assert [r[2:] for r in await runs(orchestrator)] == [("exited", "exit: lead to visitor")]
    orchestrator.clock.instant = NOW + 2 * DAY
    await orchestrator.run_due()
    assert mailbox.mails == []


async def test_a_move_that_was_heard_before_its_trigger_or_with_it_ends_the_run(
    orchestrator, mailbox, database
):
    """Topics have no order between them, and a batch has many of one contact."""
    ids = await make_contacts(orchestrator, ["ada", "bob"])
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

    both = [
        move(ids["ada"], 1, "regression"),
        move(ids["ada"], 2, "advance"),
        move(ids["bob"], 1, "regression"),
    ]
    await orchestrator.consume(both, "stage-changes")
    await orchestrator.run_due()
    assert mailbox.recipients == ["bob@x.test"]
    assert sorted(r[2:] for r in await runs(orchestrator)) == [
        ("completed", "all steps done"), ("exited", "exit: lead to visitor"),
    ]  # fmt: skip


async def test_a_run_that_ends_by_a_step_sends_what_it_had_come_by(orchestrator, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(play([{"wait": "1h"}, mail("reminder"), {"exit": "no order"}]))
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    orchestrator.clock.instant = NOW + HOUR
    await orchestrator.run_due()
    assert mailbox.recipients == ["ada@x.test"]
    assert [r[2:] for r in await runs(orchestrator)] == [("completed", "no order")]
