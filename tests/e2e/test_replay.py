"""Three arrival orders of real input, one of them under faults, give byte-for-byte equal rows."""

import asyncio
import email
import random
from datetime import UTC, datetime, timedelta

import pytest

from examples.storefront.mapping import calls as storefront
from tests.support.instance import PARTITIONS, Instance, clear_topics
from tests.support.invariants import check_published_changes, pure_rows, rows_until
from tests.support.progress import LONG, choose_seed
from tests.support.scoring_faults import ScoringFaults
from tests.support.waiting import last

pytestmark = pytest.mark.timeout(560)
# The orchestrator's mails would come back as touchpoints with another instant in each run: they
# cannot be delivered here.
NO_ECHO = {
    "INGEST_URL": "http://127.0.0.1:9",
    "PERIGEE_REACTION_WINDOW": "31d",
    "PERIGEE_MAX_AGE": "31d",
}
KILLS, PAUSES, EVERY = (10, 2, 1) if LONG else (4, 1, 3)
"""Kills, pauses beyond the session, and the share of storefront calls sent: all, or each third."""
WAITS = ("touchpoints on their way back",)


def with_duplicates(calls, seed):
    """Return the calls with a tenth of them duplicated somewhere later."""
    chance = random.Random(seed)
    calls = list(calls)
    for call in chance.sample(calls, len(calls) // 10):
        calls.insert(chance.randrange(len(calls)), call)
    return calls


def shuffled(calls, seed):
    calls = with_duplicates(calls, seed)
    random.Random(seed).shuffle(calls)
    return calls


def nearly_in_order(calls, seed):
    """Return the calls with each up to a few hundred positions off."""
    chance = random.Random(seed)
    return [
        call
        for _, call in sorted(
            enumerate(with_duplicates(calls, seed)), key=lambda x: x[0] + chance.randrange(300)
        )
    ]


async def send_slowly(instance, key, calls):
    """Send in small batches, so that the traffic lasts."""
    for start in range(0, len(calls), 250):
        await instance.send(key, calls[start : start + 250], 250)
        await last(0.3)


async def run(folder, servers, database, calls, *, fault_seed=None):
    await clear_topics(servers.kafka)
    instance = Instance(folder, servers, database, **NO_ECHO)
    try:
        await asyncio.to_thread(instance.up, 2 if fault_seed is not None else 1)
        key = await instance.create_source("storefront")
        if fault_seed is None:
            await instance.send(key, calls)
        else:
            await send_under_faults(instance, key, calls, ScoringFaults(instance, fault_seed))
        await instance.wait_until_idle(ignore=WAITS)
        outcome = await instance.replay_check()
        assert outcome["equal"], outcome
        await check_stored(instance, len({call["messageId"] for call in calls}))
        counts = await check_published_changes(servers.kafka, database)
        await check_welcome_mails(instance)
        pure, frontier = await pure_rows(database, PARTITIONS)
        return pure, frontier, counts
    finally:
        await asyncio.to_thread(instance.down)


async def send_under_faults(instance, key, calls, faults):
    sending = asyncio.create_task(send_slowly(instance, key, calls))
    while not sending.done() and not faults.count_fenced():
        await faults.freeze()
    while not sending.done() and (faults.kills < KILLS or faults.pauses < PAUSES):
        await (faults.pause() if faults.pauses * 3 < faults.kills + 1 else faults.kill())
    while faults.kills < KILLS:
        await faults.kill()
    while faults.pauses < PAUSES:
        await faults.pause()
    await sending
    print(f"kills {faults.kills}, pauses {faults.pauses}, fenced {faults.count_fenced()}")
    assert faults.count_fenced() >= 1, "no zombie was fenced: the run proves nothing"


async def check_stored(instance, expected):
    ((total, distinct),) = await instance.fetch(
        "SELECT count(*), count(DISTINCT message_id) FROM scoring.touchpoints "
        "WHERE source = 'storefront'"
    )
    assert (total, distinct) == (expected, expected), (
        "every accepted touchpoint is stored exactly once"
    )


async def check_welcome_mails(instance):
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


def test_three_arrival_orders_give_equal_rows(tmp_path, perigee_topics, make_database):
    seed = choose_seed()
    storefront_calls = list(storefront(datetime.now(UTC) - timedelta(minutes=2)))[::EVERY]
    runs = []
    for name, order, fault_seed in (
        ("in order", with_duplicates(storefront_calls, seed), None),
        ("shuffled", shuffled(storefront_calls, seed), None),
        ("nearly in order, under faults", nearly_in_order(storefront_calls, seed), seed),
    ):
        print(name)
        runs.append(
            asyncio.run(
                run(
                    tmp_path / name.split(",")[0],
                    perigee_topics,
                    make_database(),
                    order,
                    fault_seed=fault_seed,
                )
            )
        )
    frontier = min(reached for _, reached, _ in runs)

    first_rows, *other_runs = [rows_until(pure, frontier) for pure, _, _ in runs]

    assert len(first_rows) == 753 if LONG else len(first_rows) > 700
    for other_rows in other_runs:
        assert other_rows.keys() == first_rows.keys()
        assert [key for key in first_rows if other_rows[key] != first_rows[key]] == []
