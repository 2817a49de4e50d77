"""The one rule, on real input: three arrival orders, one of them under fire, give the same pure rows byte for byte."""

import asyncio
import email
import random
from datetime import UTC, datetime, timedelta

import pytest

from examples.storefront.mapping import calls
from tests.support.instance import PARTITIONS, Instance, clear_topics
from tests.support.invariants import check_published_changes, pure_rows, rows_until
from tests.support.progress import LONG, choose_seed
from tests.support.scoring_faults import ScoringFaults
from tests.support.waiting import last

pytestmark = pytest.mark.timeout(560)
# Our own mails would come back as touchpoints at the instant of sending, another one in each run: they wait here.
NO_ECHO = {
    "INGEST_URL": "http://127.0.0.1:9",
    "PERIGEE_REACTION_WINDOW": "31d",
    "PERIGEE_MAX_AGE": "31d",
}
KILLS, PAUSES, EVERY = (10, 2, 1) if LONG else (4, 1, 3)
"""Kills, pauses beyond the session, and which calls of the storefront are sent: each, or each third."""
WAITS = ("touchpoints on their way back",)


def with_repeats(found, seed):
    """Return the calls with a tenth of them again, somewhere later."""
    chance = random.Random(seed)
    found = list(found)
    for call in chance.sample(found, len(found) // 10):
        found.insert(chance.randrange(len(found)), call)
    return found


def shuffled(found, seed):
    found = with_repeats(found, seed)
    random.Random(seed).shuffle(found)
    return found


def nearly(found, seed):
    """Mostly in order: each call up to a few hundred places off."""
    chance = random.Random(seed)
    return [
        call
        for _, call in sorted(
            enumerate(with_repeats(found, seed)), key=lambda x: x[0] + chance.randrange(300)
        )
    ]


async def send_slowly(instance, key, found):
    """Send in small portions, so that the traffic lasts."""
    for begin in range(0, len(found), 250):
        await instance.send(key, found[begin : begin + 250], 250)
        await last(0.3)


async def run(folder, servers, database, found, *, chaos=None):
    await clear_topics(servers.kafka)
    instance = Instance(folder, servers, database, **NO_ECHO)
    try:
        await asyncio.to_thread(instance.up, 2 if chaos is not None else 1)
        key = await instance.create_source("storefront")
        if chaos is None:
            await instance.send(key, found)
        else:
            await under_fire(instance, key, found, ScoringFaults(instance, chaos))
        await instance.wait_until_idle(ignore=WAITS)
        outcome = await instance.replay_check()
        assert outcome["equal"], outcome
        await check_stored(instance, len({call["messageId"] for call in found}))
        counts = await check_published_changes(servers.kafka, database)
        await check_ledger(instance)
        pure, frontier = await pure_rows(database, PARTITIONS)
        return pure, frontier, counts
    finally:
        await asyncio.to_thread(instance.down)


async def under_fire(instance, key, found, chaos):
    sending = asyncio.create_task(send_slowly(instance, key, found))
    while not sending.done() and not chaos.count_fenced():
        await chaos.freeze()
    while not sending.done() and (chaos.kills < KILLS or chaos.pauses < PAUSES):
        await (chaos.pause() if chaos.pauses * 3 < chaos.kills + 1 else chaos.kill())
    while chaos.kills < KILLS:
        await chaos.kill()
    while chaos.pauses < PAUSES:
        await chaos.pause()
    await sending
    print(f"kills {chaos.kills}, pauses {chaos.pauses}, fenced {chaos.count_fenced()}")
    assert chaos.count_fenced() >= 1, "no zombie was fenced: the run proves nothing"


async def check_stored(instance, expected):
    ((total, distinct),) = await instance.fetch(
        "SELECT count(*), count(DISTINCT message_id) FROM scoring.touchpoints WHERE source = 'storefront'"
    )
    assert (total, distinct) == (expected, expected), (
        "every accepted touchpoint is stored exactly once"
    )


async def check_ledger(instance):
    rows = await instance.fetch(
        "SELECT contact_id, count(*) FROM orchestrator.actions GROUP BY 1 HAVING count(*) > 1"
    )
    assert not rows, "a contact is welcomed once"
    mails = [
        email.message_from_bytes(path.read_bytes())
        for path in instance.stack.mail.folder.glob("*.eml")
    ]
    ids = [mail["Message-ID"] for mail in mails]
    assert len(set(ids)) == len(ids)
    sent = await instance.fetch("SELECT action_id FROM orchestrator.actions WHERE status = 'sent'")
    assert {f"<{r[0]}@perigee>" for r in sent} == set(ids)


def test_three_arrival_orders_one_of_them_under_fire(tmp_path, perigee_topics, make_database):
    seed = choose_seed()
    found = list(calls(datetime.now(UTC) - timedelta(minutes=2)))[::EVERY]
    runs = []
    for name, order, chaos in (
        ("in order", with_repeats(found, seed), None),
        ("shuffled", shuffled(found, seed), None),
        ("nearly in order, under fire", nearly(found, seed), seed),
    ):
        print(name)
        runs.append(
            asyncio.run(
                run(
                    tmp_path / name.split(",")[0],
                    perigee_topics,
                    make_database(),
                    order,
                    chaos=chaos,
                )
            )
        )
    frontier = min(reached for _, reached, _ in runs)
    first, *others = [rows_until(pure, frontier) for pure, _, _ in runs]
    assert len(first) == 753 if LONG else len(first) > 700
    for other in others:
        assert other.keys() == first.keys()
        assert [place for place in first if other[place] != first[place]] == []
