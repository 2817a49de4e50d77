"""Exits: they end an enrollment and cancel its pending actions."""

import asyncio

import msgspec

from libs.common.messages import Cause, StageChange, StageMove
from tests.integration.plays.contacts import make_contacts, signal_message
from tests.integration.plays.play_texts import NOW, enrollments, mail, play
from tests.support.orchestrator import Orchestrator
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, identify, touchpoint


async def test_exit_cancels_pending_actions_with_reason(orchestrator, database, mailbox):
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
    assert sorted(r[2:] for r in await enrollments(orchestrator)) == [
        ("active", ""),
        ("exited", "exit: order_completed"),
    ]

    orchestrator.clock.instant = NOW + 3 * DAY
    await orchestrator.run_due()

    assert mailbox.recipients == ["bob@x.test"] * 2


async def test_exit_before_reservation_prevents_mail(database, mailbox, orchestrator):
    """Exits race with three dispatchers: no contact has both an earlier exit and a mail."""
    names = [f"p{number}" for number in range(40)]
    ids = await make_contacts(orchestrator, names)
    await orchestrator.publish(play([mail()], exits=[{"signal": "order_completed"}]))
    await orchestrator.consume([signal_message(ids[name], at=NOW) for name in names])
    dispatchers = [Orchestrator(database, mailbox) for _ in range(3)]

    async def publish_exits():
        for name in names[::2]:
            await orchestrator.consume([signal_message(ids[name], "order_completed", NOW + 1, 1)])

    async def send(dispatcher):
        for _ in range(30):
            await dispatcher.dispatch_due()

    await asyncio.gather(publish_exits(), *(send(dispatcher) for dispatcher in dispatchers))
    rows = await orchestrator.fetch("SELECT contact_id, status FROM orchestrator.actions")
    exited = {contact for contact, status in rows if status == "skipped"}
    sent = {contact for contact, status in rows if status == "sent"}
    assert exited | sent == set(ids.values())
    assert sorted(mailbox.recipients) == sorted(
        f"{name}@x.test" for name in names if ids[name] in sent
    )
    assert {ids[name] for name in names[1::2]} <= sent
    for dispatcher in dispatchers:
        await dispatcher.close()


async def test_exit_condition_needs_no_event(orchestrator, database, mailbox):
    """The decision reads scoring's current state, also without a consumed event."""
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

    ((_, _, status, reason),) = await enrollments(orchestrator)

    assert (status, reason) == ("exited", 'exit: {"stage":"customer"}')


async def test_stage_change_starts_and_ends_enrollment(orchestrator, database, mailbox):
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
            id=f"c{number}",
            workspace="default",
            contact_id=ids["ada"],
            cycle="engagement",
            cycle_version="1",
            sequence=number,
            occurred_at=at,
            direction=direction,
            stage=StageMove("lead", "visitor"),
            axes={},
            dormant=False,
            instance="i",
            reason="time",
            cause=Cause("time", at),
            values={},
        )
        return msgspec.json.encode(change)

    await orchestrator.consume([move(1, "regression", NOW)], "stage-changes")
    assert [r[2] for r in await enrollments(orchestrator)] == ["active"]
    await orchestrator.consume([move(2, "re_entry", NOW + 5)], "stage-changes")
    assert [r[2:] for r in await enrollments(orchestrator)] == [("exited", "exit: lead to visitor")]
    orchestrator.clock.instant = NOW + 2 * DAY
    await orchestrator.run_due()
    assert mailbox.mails == []


async def test_exit_in_batch_of_trigger_ends_enrollment(orchestrator, mailbox, database):
    """Topics have no order between them, and a batch has several messages of one contact."""
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    text = play(
        [mail()],
        trigger={"stage_change": {"direction": "regression"}},
        exits=[{"stage_change": {"direction": "advance"}}],
    )
    await orchestrator.publish(text)

    def move(contact, number, direction):
        change = StageChange(
            id=f"{contact}-{number}",
            workspace="default",
            contact_id=contact,
            cycle="engagement",
            cycle_version="1",
            sequence=number,
            occurred_at=NOW + number,
            direction=direction,
            stage=StageMove("lead", "visitor"),
            axes={},
            dormant=False,
            instance="i",
            reason="time",
            cause=Cause("time", NOW),
            values={},
        )
        return msgspec.json.encode(change)

    stage_changes = [
        move(ids["ada"], 1, "regression"),
        move(ids["ada"], 2, "advance"),
        move(ids["bob"], 1, "regression"),
    ]
    await orchestrator.consume(stage_changes, "stage-changes")
    await orchestrator.run_due()
    assert mailbox.recipients == ["bob@x.test"]
    assert sorted(r[2:] for r in await enrollments(orchestrator)) == [
        ("completed", "all steps done"), ("exited", "exit: lead to visitor"),
    ]  # fmt: skip


async def test_exit_step_sends_earlier_actions(orchestrator, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(play([{"wait": "1h"}, mail("reminder"), {"exit": "no order"}]))
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    orchestrator.clock.instant = NOW + HOUR

    await orchestrator.run_due()

    assert mailbox.recipients == ["ada@x.test"]
    assert [r[2:] for r in await enrollments(orchestrator)] == [("completed", "no order")]
