"""Operators' changes while contacts are enrolled, and their reports."""

import msgspec
import pytest

from libs.common.errors import ConfigurationError, Conflict, NotFound
from tests.integration.plays.contacts import make_contacts, signal_message
from tests.integration.plays.play_texts import NOW, enrollments, mail, play
from tests.support.touchpoints import DAY


async def test_enrollment_stays_in_its_version(orchestrator, database, mailbox):
    ids = await make_contacts(orchestrator, ["ada", "bob"])

    assert await orchestrator.publish(play([{"wait": "1d"}, mail("old")])) == 1

    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    assert await orchestrator.publish(play([mail("new")])) == 2
    assert await orchestrator.publish(play([mail("new")])) == 2, (
        "an unchanged text became a new version"
    )

    await orchestrator.consume([signal_message(ids["bob"], at=NOW)])
    orchestrator.clock.instant = NOW + DAY
    await orchestrator.run_due()
    assert sorted(
        r[0] for r in await orchestrator.fetch("SELECT step FROM orchestrator.actions")
    ) == ["new", "old"]
    assert sorted(mailbox.recipients) == ["ada@x.test", "bob@x.test"]
    assert await orchestrator.play_service.roll_back("default", "quote") == 1

    await orchestrator.consume([signal_message(ids["bob"], at=NOW + 1, number=1)])

    assert sorted(r[1] for r in await enrollments(orchestrator)) == [1, 1, 2]
    with pytest.raises(NotFound, match="no version 7"):
        await orchestrator.play_service.roll_back("default", "quote", 7)


async def test_paused_play_stops_and_resumes(orchestrator, database, mailbox):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.publish(play([mail("first"), {"wait": "1d"}, mail("second")]))
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    await orchestrator.play_service.set_paused("default", "quote", on=True)
    await orchestrator.consume([signal_message(ids["bob"], at=NOW)])
    orchestrator.clock.instant = NOW + DAY

    await orchestrator.run_due()

    assert mailbox.mails == []
    assert await orchestrator.action_states() == [("held", "play_paused")]
    assert [r[0] for r in await enrollments(orchestrator)] == ["quote"], (
        "a contact entered a paused play"
    )

    await orchestrator.play_service.set_paused("default", "quote", on=False)
    await orchestrator.run_due()

    assert mailbox.recipients == ["ada@x.test"] * 2


async def test_paused_play_keeps_its_waits(orchestrator, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(play([{"wait": "2d"}, mail()]))
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    await orchestrator.play_service.set_paused("default", "quote", on=True)
    orchestrator.clock.instant = NOW + DAY
    await orchestrator.run_due()

    await orchestrator.play_service.set_paused("default", "quote", on=False)

    assert await orchestrator.fetch("SELECT due_at FROM orchestrator.enrollments") == [
        (NOW + 2 * DAY,)
    ]

    orchestrator.clock.instant = NOW + 2 * DAY
    await orchestrator.run_due()

    assert mailbox.recipients == ["ada@x.test"]


async def test_kill_switch_holds_actions_without_loss(orchestrator, database, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(play([mail()]))
    await orchestrator.play_service.set_channel_stopped("default", "email", "ops", on=True)
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])

    await orchestrator.run_due()

    assert (mailbox.mails, await orchestrator.action_states()) == ([], [("held", "kill_switch")])
    assert await orchestrator.play_service.list_stopped_channels("default") == ["email"]

    await orchestrator.play_service.set_channel_stopped("default", "email", "ops", on=False)
    await orchestrator.run_due()

    assert mailbox.recipients == ["ada@x.test"]


async def test_definition_in_use_cannot_be_removed(orchestrator):
    await orchestrator.definitions.define(
        "default", "segment", "segment: fans\nwhen: {stage: customer}", "test", "fans.yaml"
    )
    await orchestrator.publish(play([mail()], entry={"segment": "fans"}))

    with pytest.raises(Conflict, match="quote .version 1."):
        await orchestrator.definitions.delete("default", "segment", "fans")
    with pytest.raises(
        ConfigurationError, match=r"fans.yaml:2:8: when.stage: cycle engagement has no stage 'king'"
    ):
        await orchestrator.definitions.define(
            "default", "segment", "segment: fans\nwhen: {stage: king}", "test", "fans.yaml"
        )
    with pytest.raises(ConfigurationError, match="no segment 'kings'"):
        await orchestrator.publish(play([mail()], entry={"segment": "kings"}))

    destination = (
        "destination: crm\nchannel: webhook\nurl: https://crm.example/x\n"
        "secret: whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
    )
    await orchestrator.definitions.define("default", "destination", destination, "test", "crm.yaml")
    definitions = await orchestrator.definitions.list_definitions("default")

    assert not [definition for definition in definitions if "whsec" in definition["text"]]


async def test_why_not_lists_decisions_and_plays(orchestrator, database, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(
        play([mail(), {"wait": "9d"}, mail("later")], exits=[{"signal": "order_completed"}])
    )
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW + 1, 1)])

    for reference in ("ada", ids["ada"], "ADA@x.test"):
        history = await orchestrator.decision_history.get_decisions("default", reference)
        assert [(d.step, d.status, d.reason) for d in history.decisions] == [
            ("mail", "skipped", "exit: order_completed")
        ]
        assert [(r.play, r.status) for r in history.plays] == [("quote", "exited")]

    with pytest.raises(NotFound):
        await orchestrator.decision_history.get_decisions("default", "nobody")


async def test_template_without_its_value_holds_action(orchestrator, database, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    broken = mail(mail={"subject": "Hi {{ contact.firstName }}", "text": "t"})
    await orchestrator.publish(play([broken]))
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    await orchestrator.run_due()

    ((status, reason),) = await orchestrator.action_states()

    assert (status, reason.startswith("template:"), "firstName" in reason) == ("held", True, True)
    assert mailbox.mails == []


async def test_goal_is_counted_for_holdout_too(orchestrator, database, mailbox):
    names = [f"p{number}" for number in range(60)]
    ids = await make_contacts(orchestrator, names)
    await orchestrator.publish(
        play([mail()], holdout=0.4, goal={"signal": "order_completed", "within": "5d"})
    )
    await orchestrator.consume([signal_message(ids[name], at=NOW) for name in names])
    await orchestrator.run_due()

    holdout = await orchestrator.fetch(
        "SELECT contact_id FROM orchestrator.enrollments WHERE status = 'holdout'"
    )

    assert 10 < len(holdout) < 40
    assert len(mailbox.mails) == 60 - len(holdout)

    await orchestrator.consume(
        [signal_message(ids[name], "order_completed", NOW + DAY, 1) for name in names[:30]]
    )
    await orchestrator.consume(
        [signal_message(ids[name], "order_completed", NOW + 6 * DAY, 2) for name in names[30:]]
    )
    impact = {
        group.group: group
        for group in await orchestrator.reports.measure_impact("default", "quote")
    }
    assert impact["held out"].entered == len(holdout)
    assert impact["held out"].reached + impact["version 1"].reached == 30
    assert impact["version 1"].low < impact["version 1"].rate < impact["version 1"].high

    action_messages = await orchestrator.fetch(
        "SELECT value FROM orchestrator.outbox WHERE topic = 'actions'"
    )

    assert [msgspec.json.decode(r[0])["status"] for r in action_messages].count("holdout") == len(
        holdout
    )


async def test_operator_retries_failed_and_resolves_doubtful_actions(orchestrator, mailbox):
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.publish(play([mail()]))
    mailbox.answers = ["550 never"]
    await orchestrator.consume([signal_message(ids["ada"], at=NOW)])
    await orchestrator.run_due()

    ((failed,),) = await orchestrator.fetch("SELECT action_id FROM orchestrator.actions")

    assert [
        action.action_id
        for action in await orchestrator.action_ledger.list_actions("default", "failed", 10)
    ] == [failed]
    assert await orchestrator.action_ledger.list_actions("other", "failed", 10) == []
    with pytest.raises(Conflict, match="is failed: arrived is for in_doubt"):
        await orchestrator.action_ledger.resolve_action("default", failed, "arrived", "jo")
    with pytest.raises(NotFound):
        await orchestrator.action_ledger.resolve_action("other", failed, "retry", "jo")

    await orchestrator.action_ledger.resolve_action("default", failed, "retry", "jo")
    await orchestrator.run_due()
    assert mailbox.recipients == ["ada@x.test"]

    mailbox.drop_after_data = True
    await orchestrator.consume([signal_message(ids["bob"], at=NOW, number=1)])
    await orchestrator.run_due()
    ((doubtful,),) = await orchestrator.fetch(
        "SELECT action_id FROM orchestrator.actions WHERE status = 'in_doubt'"
    )
    await orchestrator.action_ledger.resolve_action("default", doubtful, "arrived", "jo")

    assert sorted(await orchestrator.action_states()) == [
        ("sent", "accepted by the server"),
        ("sent", "arrived, says jo"),
    ]
