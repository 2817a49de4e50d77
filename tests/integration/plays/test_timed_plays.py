"""Plays with timed triggers: silence, date, segment, schedule."""

from libs.common.instants import MINUTE, to_iso
from tests.integration.plays.contacts import make_contacts, signal_message
from tests.integration.plays.play_texts import NOW, mail, play
from tests.support.touchpoints import DAY, HOUR, START, touchpoint


async def test_each_silence_starts_play_once(orchestrator, scoring, mailbox):
    await make_contacts(orchestrator, ["ada", "bob"])
    text = play([mail()], "quiet", trigger={"silence": {"for": "10d"}}, max_age="1d")
    await orchestrator.publish(text)
    orchestrator.play_registry._max_age = None
    await scoring.ingest([touchpoint(DAY, "Content Downloaded", user_id="bob")])

    for day in range(40):
        if day == 20:
            await scoring.ingest(
                [touchpoint(20 * DAY, "Content Downloaded", user_id="ada", number="x")]
            )
        for hour in (1, 13):
            await orchestrator.sweep_at(START + day * DAY + hour * HOUR)

    assert sorted(mailbox.recipients) == ["ada@x.test", "ada@x.test", "bob@x.test"]


async def test_date_trigger_starts_play_before_date(orchestrator, mailbox):
    orchestrator.play_registry._max_age = None
    await make_contacts(orchestrator, ["ada"], traits={"renewal": to_iso(NOW + 20 * DAY)[:10]})
    await make_contacts(orchestrator, ["eve"], traits={"renewal": "nobody knows"})
    text = mail(
        mail={
            "subject": "{{ event.days_left }} days",
            "text": "{{ event.date }} {{ unsubscribe_url }}",
        }
    )
    await orchestrator.publish(
        play([text], "renewal", trigger={"date": {"trait": "renewal", "before": "7d"}})
    )
    sent = []

    for day in range(25):
        await orchestrator.sweep_at(NOW + day * DAY)
        sent += [day] * (len(mailbox.mails) - len(sent))

    assert sent == [13]
    assert "Subject: 7 days" in mailbox.mails[0].content.decode()


async def test_segment_entry_starts_play(orchestrator, mailbox):
    orchestrator.play_registry._max_age = None
    ids = await make_contacts(orchestrator, ["ada", "bob", "eve"])
    await orchestrator.consume([signal_message(ids["ada"], "order_completed", NOW)])
    segment = "segment: fresh\nwhen: {seen: order_completed, within: 3d}"
    await orchestrator.definitions.define("default", "segment", segment, "test", "fresh.yaml")
    await orchestrator.publish(play([mail()], "fresh", trigger={"segment": "fresh"}))

    await orchestrator.sweep_at(NOW + HOUR)

    assert mailbox.mails == []

    orchestrator.clock.instant = NOW + 2 * HOUR
    await orchestrator.consume([signal_message(ids["bob"], "order_completed", NOW + 2 * HOUR, 1)])
    await orchestrator.consume_own_signals()
    assert mailbox.recipients == ["bob@x.test"], "the entry did not start the play at once"

    for hour in range(3, 9):
        await orchestrator.sweep_at(NOW + hour * HOUR)
    assert mailbox.recipients == ["bob@x.test"]

    await orchestrator.sweep_at(NOW + 9 * DAY)
    await orchestrator.consume(
        [signal_message(ids["ada"], "order_completed", NOW + 9 * DAY + 1, 2)]
    )
    await orchestrator.consume_own_signals()

    assert mailbox.recipients == ["bob@x.test", "ada@x.test"], (
        "a second entry did not start the play"
    )


async def test_broadcast_obeys_its_hourly_rate(orchestrator, mailbox):
    orchestrator.play_registry._max_age = None
    await make_contacts(orchestrator, [f"p{number}" for number in range(50)])
    trigger = {"schedule": to_iso(NOW)}
    await orchestrator.publish(
        play([mail()], "news", trigger=trigger, kind="broadcast", per_hour=600, max_age="2d")
    )
    sent = []

    for minute in range(7):
        await orchestrator.sweep_at(NOW + minute * MINUTE)
        sent.append(len(mailbox.mails))

    assert sent == [10, 20, 30, 40, 50, 50, 50]


async def test_broadcast_reaches_each_matching_contact_once(orchestrator, mailbox):
    orchestrator.play_registry._max_age = None
    await make_contacts(
        orchestrator, [f"p{number}" for number in range(250)], traits={"country": "FR"}
    )
    await make_contacts(orchestrator, ["eve"])
    at = to_iso(NOW + DAY)
    text = play(
        [mail()],
        "news",
        trigger={"schedule": at},
        entry={"trait": "country", "equals": "FR"},
        kind="broadcast",
    )
    await orchestrator.publish(text)

    await orchestrator.sweep_at(NOW + DAY - HOUR)

    assert mailbox.mails == []

    for hour in range(3):
        await orchestrator.sweep_at(NOW + DAY + hour * HOUR)
        await orchestrator.run_due(200)

    assert len(mailbox.mails) == len(set(mailbox.recipients)) == 250
