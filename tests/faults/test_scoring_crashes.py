"""Scoring under faults: kills, pauses beyond the session, rebalances, malformed records, a backlog.

A short form runs in `make test`, the long one (a million touchpoints, 200 kills, 20 fenced) in
`make test-faults`. Seeds are printed; PERIGEE_SEED repeats a run.
"""

import asyncio
import time

import pytest

from cli.servers.managed_process import ManagedProcess
from libs.common.kafka.topic_reader import read_all as messages
from services.scoring.repository.schedule import GRACE
from tests.support.instance import Instance
from tests.support.invariants import check_published_changes
from tests.support.progress import LONG, choose_seed, report_progress
from tests.support.scoring_faults import ScoringFaults, TouchpointStream
from tests.support.waiting import last

TOUCHPOINTS, KILLS, FENCED, JOINS = (1_000_000, 200, 20, 30) if LONG else (6_000, 3, 1, 1)
BACKLOG, SILENCES = (100_000, 10_000) if LONG else (3_000, 300)
BATCH = 500
pytestmark = pytest.mark.timeout(3_600 if LONG else 300)
# Events that the orchestrator sends back would arrive as further touchpoints.
QUIET = {"INGEST_URL": "http://127.0.0.1:9"}
RAISES = f"in_fold:{3_000 if LONG else 200}:raise"
"""Rare enough that a process folds some touchpoints first."""
WAITS = ("touchpoints on their way back",)
SECOND = 1_000_000


async def send_until_done(stream, done):
    """Send batches until the faults are done and every touchpoint is sent."""
    while stream.sent < TOUCHPOINTS or not done.is_set():
        await stream.send(BATCH)
        await last(0.02 if stream.sent < TOUCHPOINTS else 0.3)


async def inject_faults(faults, done):
    while faults.kills < KILLS or faults.count_fenced() < FENCED or faults.joins < JOINS:
        report_progress(
            f"faults: {faults.kills} of {KILLS} kills, "
            f"{faults.count_fenced()} of {FENCED} fenced, {faults.joins} of {JOINS} joins"
        )
        if faults.joins * KILLS < faults.kills * JOINS:
            await faults.rebalance()
        elif faults.count_fenced() * KILLS < faults.kills * FENCED or faults.kills >= KILLS:
            await (faults.freeze() if faults.pauses % 2 == 0 else faults.pause())
        else:
            await faults.kill()
    done.set()


async def restart_without_failpoint(instance):
    """Start scoring without the failpoint; queued refolds become due at once."""
    instance.stack.home.store_environment(
        environment={**instance.stack.home.read("options")["environment"], "PERIGEE_FAILPOINT": ""}
    )
    await asyncio.to_thread(instance.up, 2)
    await instance.fetch(
        "UPDATE scoring.refolds SET queued_at = queued_at - interval '1 minute' RETURNING 1"
    )


async def check(instance, stream):
    await instance.wait_until_idle(1_800 if LONG else 200, ignore=WAITS)
    outcome = await instance.replay_check()
    assert outcome["equal"], outcome
    ((total, distinct),) = await instance.fetch(
        "SELECT count(*), count(DISTINCT message_id) FROM scoring.touchpoints "
        "WHERE source = 'torrent'"
    )
    assert total == distinct == stream.sent, "every touchpoint is stored once"
    return await check_published_changes(instance.servers.kafka, instance.database)


async def test_kills_pauses_and_rebalances_lose_nothing(tmp_path, perigee_topics, database):
    seed = choose_seed()
    instance = Instance(tmp_path, perigee_topics, database, **QUIET, PERIGEE_FAILPOINT=RAISES)
    stream = TouchpointStream(
        perigee_topics.kafka, seed, contacts=5_000 if LONG else 300, poison=0.01
    )
    try:
        await asyncio.to_thread(instance.up, 2)
        faults, done = ScoringFaults(instance, seed), asyncio.Event()
        sending = asyncio.create_task(send_until_done(stream, done))
        await inject_faults(faults, done)
        await sending
        raised = faults.count_logged("fold_error")
        await restart_without_failpoint(instance)
        started = time.monotonic()
        await check(instance, stream)
        dead_letters = await messages(perigee_topics.kafka, "scoring-dlq")
        origins = ("x-dlq-topic", "x-dlq-partition", "x-dlq-offset")
        offsets = {tuple(dict(record.headers)[name] for name in origins) for record in dead_letters}
        assert len(offsets) == stream.poisoned, "the dead letters are not the malformed records"
        assert raised, "no rule raised"
        print(
            f"{stream.sent} touchpoints, {stream.poisoned} malformed, {raised} folds raised, "
            f"kills {faults.kills}, pauses {faults.pauses}, fenced {faults.count_fenced()}, "
            f"joins {faults.joins}; idle {time.monotonic() - started:.0f} s after the last"
        )
    finally:
        await stream.close()
        await asyncio.to_thread(instance.down)


async def test_backlog_causes_no_false_dormancy(tmp_path, perigee_topics, database):
    """Contacts return while scoring is stopped, before they become dormant."""
    seed = choose_seed()
    instance = Instance(tmp_path, perigee_topics, database, **QUIET)
    stream = TouchpointStream(perigee_topics.kafka, seed, contacts=SILENCES)
    silence = 60 * 86_400 * SECOND
    try:
        await asyncio.to_thread(instance.up, 1)
        due = time.time_ns() // 1_000 + (40 if LONG else 4) * SECOND
        first_visits = list(visits(SILENCES, due - silence, "old"))
        await publish(stream, first_visits)
        await instance.wait_until_idle(ignore=WAITS)
        ((timers,),) = await instance.fetch(
            "SELECT count(*) FROM scoring.timers WHERE due_at = $1", due
        )
        assert timers == SILENCES, "the dormancy timers are not due at one instant"
        ManagedProcess(instance.stack.home, "scoring").stop()
        await publish(stream, visits(SILENCES, due - SECOND, "back"))
        assert time.time_ns() // 1_000 < due + GRACE, "the return visits were published too late"
        await stream.send(BACKLOG - SILENCES)
        await last(max(0.0, (due + GRACE) / SECOND - time.time()) + 2)
        await asyncio.to_thread(instance.up, 1)
        directions = await check(instance, stream)
        ((dormant,),) = await instance.fetch(
            "SELECT count(*) FROM scoring.publications p "
            "JOIN scoring.identifiers i USING (contact_id) "
            "WHERE i.value LIKE 'silent%' AND p.dormant"
        )
        assert (dormant, directions.get("dormancy", 0)) == (0, 0), (
            "a backlog fired a false dormancy"
        )
        print(f"{stream.sent} touchpoints queued, {SILENCES} timers due, {dormant} dormant")
    finally:
        await stream.close()
        await asyncio.to_thread(instance.down)


def visits(count, at, name):
    from libs.common.messages import Touchpoint

    for number in range(count):
        yield Touchpoint(
            workspace="default", source=name, message_id=f"{name}{number}", type="track",
            name="Product Viewed", occurred_at=at, received_at=at, user_id=f"silent{number}",
        )  # fmt: skip


async def publish(stream, touchpoints):
    from libs.common.messages import build_message

    messages = [
        build_message(
            t, key=t.routing_key(), message_id=t.message_id, source="/t", time=t.occurred_at
        )
        for t in touchpoints
    ]
    for start in range(0, len(messages), 2_000):
        assert not any(await stream.publisher.publish(messages[start : start + 2_000], 30))
