"""The gate under concurrency: caps, priorities, consents, content."""

import asyncio
from datetime import time

import pytest
import yaml

from services.orchestrator.domain.gate import GateRules
from tests.integration.plays.contacts import make_contacts, signal_message
from tests.integration.plays.play_texts import NOW, mail, play
from tests.support.orchestrator import Orchestrator
from tests.support.touchpoints import DAY, HOUR


@pytest.mark.capability(55)
async def test_concurrent_dispatchers_keep_caps_and_priorities(database, mailbox):
    rules = GateRules(cap_per_day=1, cap_per_week=3)
    processes = [Orchestrator(database, mailbox, rules) for _ in range(16)]
    await processes[0].install()
    names = [f"p{number}" for number in range(25)]
    ids = await make_contacts(processes[0], names)
    for number in range(5):
        await processes[0].publish(play([mail(f"m{number}")], f"play-{number}", priority=number))

    for day in range(6):
        for process in processes:
            process.clock.instant = NOW + day * DAY
        await processes[0].consume(
            [signal_message(ids[name], at=NOW + day * DAY, number=day) for name in names]
        )
        for _ in range(6):
            await asyncio.gather(*(process.dispatch_due() for process in processes))
        assert len(mailbox.mails) == len(names) * min(day + 1, 3)

    assert {
        mail.content.decode().split("Subject: ")[1].split("\r")[0] for mail in mailbox.mails
    } == {"m4"}

    counts = dict(
        await processes[0].fetch("SELECT status, count(*) FROM orchestrator.actions GROUP BY 1")
    )
    assert counts == {"sent": 75, "capped": 25 * 5 * 6 - 75}

    reasons = dict(
        await processes[0].fetch(
            "SELECT reason, count(*) FROM orchestrator.actions WHERE status = 'capped' GROUP BY 1"
        )
    )

    assert reasons.keys() == {"cap_of_1_per_day", "cap_of_3_per_week"}

    for process in processes:
        await process.close()


async def test_weekly_cap_ends_after_a_week(database, mailbox):
    orchestrator = Orchestrator(database, mailbox, GateRules(cap_per_day=1, cap_per_week=1))
    await orchestrator.install()
    ids = await make_contacts(orchestrator, ["ada"])
    await orchestrator.publish(play([mail()]))

    for day in (0, 6, 7):
        orchestrator.clock.instant = NOW + day * DAY
        await orchestrator.consume([signal_message(ids["ada"], at=NOW + day * DAY, number=day)])
        await orchestrator.run_due()

    assert [
        r[0] for r in sorted(await orchestrator.fetch("SELECT status FROM orchestrator.actions"))
    ] == [
        "capped",
        "sent",
        "sent",
    ]

    await orchestrator.close()


async def test_withdrawn_consent_stops_held_mail(database, mailbox):
    orchestrator = Orchestrator(database, mailbox, GateRules(quiet_from=time(0), quiet_to=time(23)))
    await orchestrator.install()
    ids = await make_contacts(orchestrator, ["ada", "bob"])
    await orchestrator.publish(play([mail()]))
    orchestrator.clock.instant = NOW - NOW % DAY + HOUR
    await orchestrator.consume(
        [signal_message(ids[name], at=orchestrator.clock.instant) for name in ids]
    )

    await orchestrator.run_due()

    assert {status for status, _ in await orchestrator.action_states()} == {"held"}

    await orchestrator.consume(
        [signal_message(ids["ada"], "consent_withdrawn", orchestrator.clock.instant + 1, 1)]
    )
    orchestrator.clock.instant += 22 * HOUR
    await orchestrator.run_due()

    assert mailbox.recipients == ["bob@x.test"]
    assert sorted(await orchestrator.action_states())[1] == ("suppressed", "consent_withdrawn")

    await orchestrator.close()


CONTENTS = [
    {"content": "trial", "type": "trial", "title": "Try it", "url": "/trial", "priority": 9},
    {
        "content": "story",
        "type": "case_study",
        "title": "How others do",
        "url": "/story",
        "priority": 8,
    },
    {
        "content": "guide",
        "type": "own_guide",
        "title": "A guide",
        "url": "/guide",
        "levels": ["problem_aware"],
        "priority": 1,
    },
    {
        "content": "faq",
        "type": "article",
        "title": "Questions",
        "url": "/faq",
        "channels": ["onsite"],
        "priority": 7,
    },
]


async def test_early_and_seen_content_is_not_sent(orchestrator, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    for content in CONTENTS:
        await orchestrator.definitions.define(
            "default", "content", yaml.safe_dump(content), "test", "content.yaml"
        )
    selection = {"types": ["trial", "case_study", "own_guide", "article"]}
    step = mail(content=selection, mail={"subject": "{{ content.title }}", "text": "t"})
    await orchestrator.publish(play([step]))

    for number in range(2):
        await orchestrator.consume([signal_message(ids["ada"], at=NOW, number=number)])
        await orchestrator.run_due()

    assert ["Subject: A guide" in mail.content.decode() for mail in mailbox.mails] == [True]

    rows = await orchestrator.fetch(
        "SELECT status, reason, content FROM orchestrator.actions ORDER BY status DESC"
    )
    assert rows[0][0] == "skipped"
    assert "trial: too early: trial from validation on" in rows[0][1]
    assert "case_study from qualified on" in rows[0][1]
    assert "guide: seen" in rows[0][1]
    assert "faq: not for email" in rows[0][1]

    await orchestrator.publish(
        play([mail(content={**selection, "override_gate": True}, mail=step["mail"])])
    )
    await orchestrator.consume([signal_message(ids["ada"], at=NOW, number=3)])
    await orchestrator.run_due()

    assert "Subject: Try it" in mailbox.mails[1].content.decode()
