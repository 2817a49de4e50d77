"""Scoring under fire: killed at random, paused beyond its session, crowded, fed rubbish; and behind, with silences due.

A short form runs in `make test`, the long one (a million touchpoints, 200 kills, 20 fenced) in `make test-faults`. Seeds
are printed; PERIGEE_SEED repeats one.
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
PIECE = 500
pytestmark = pytest.mark.timeout(3_600 if LONG else 300)
# What is sent back would come as further touchpoints.
QUIET = {"INGEST_URL": "http://127.0.0.1:9"}
RAISES = f"in_fold:{3_000 if LONG else 200}:raise"
"""Often enough that a process lives to see it."""
WAITS = ("touchpoints on their way back",)
SECOND = 1_000_000


async def flow(torrent, done):
    """Send piece by piece, so that it lasts as long as the storm, and no less than all."""
    while torrent.sent < TOUCHPOINTS or not done.is_set():
        await torrent.send(PIECE)
        await last(0.02 if torrent.sent < TOUCHPOINTS else 0.3)


async def storm(chaos, done):
    while chaos.kills < KILLS or chaos.count_fenced() < FENCED or chaos.joins < JOINS:
        report_progress(
            f"storm: {chaos.kills} of {KILLS} kills, {chaos.count_fenced()} of {FENCED} fenced, {chaos.joins} of {JOINS} joins"
        )
        if chaos.joins * KILLS < chaos.kills * JOINS:
            await chaos.rebalance()
        elif chaos.count_fenced() * KILLS < chaos.kills * FENCED or chaos.kills >= KILLS:
            await (chaos.freeze() if chaos.pauses % 2 == 0 else chaos.pause())
        else:
            await chaos.kill()
    done.set()


async def mend(instance):
    """Start scoring again with a rule that does not raise, and spare it the minute between two tries."""
    instance.stack.home.store_environment(
        environment={**instance.stack.home.read("options")["environment"], "PERIGEE_FAILPOINT": ""}
    )
    await asyncio.to_thread(instance.up, 2)
    await instance.fetch(
        "UPDATE scoring.refolds SET queued_at = queued_at - interval '1 minute' RETURNING 1"
    )


async def check(instance, torrent):
    await instance.wait_until_idle(1_800 if LONG else 200, ignore=WAITS)
    outcome = await instance.replay_check()
    assert outcome["equal"], outcome
    ((total, distinct),) = await instance.fetch(
        "SELECT count(*), count(DISTINCT message_id) FROM scoring.touchpoints WHERE source = 'torrent'"
    )
    assert total == distinct == torrent.sent, "every touchpoint is stored once"
    return await check_published_changes(instance.servers.kafka, instance.database)


async def test_a_storm_of_kills_pauses_crowds_and_rubbish(tmp_path, perigee_topics, database):
    seed = choose_seed()
    instance = Instance(tmp_path, perigee_topics, database, **QUIET, PERIGEE_FAILPOINT=RAISES)
    torrent = TouchpointStream(
        perigee_topics.kafka, seed, people=5_000 if LONG else 300, poison=0.01
    )
    try:
        await asyncio.to_thread(instance.up, 2)
        chaos, done = ScoringFaults(instance, seed), asyncio.Event()
        flowing = asyncio.create_task(flow(torrent, done))
        await storm(chaos, done)
        await flowing
        raised = chaos.count_logged("fold_error")
        await mend(instance)
        begun = time.monotonic()
        await check(instance, torrent)
        dead = await messages(perigee_topics.kafka, "scoring-dlq")
        origins = ("x-dlq-topic", "x-dlq-partition", "x-dlq-offset")
        places = {tuple(dict(record.headers)[name] for name in origins) for record in dead}
        assert len(places) == torrent.poisoned, "every rubbish record is kept, and nothing else"
        assert raised, "no rule raised"
        print(
            f"{torrent.sent} touchpoints, {torrent.poisoned} rubbish, {raised} folds raised, "
            f"kills {chaos.kills}, pauses {chaos.pauses}, fenced {chaos.count_fenced()}, joins {chaos.joins}; "
            f"at rest {time.monotonic() - begun:.0f} s after the last"
        )
    finally:
        await torrent.close()
        await asyncio.to_thread(instance.down)


async def test_a_backlog_makes_no_false_silence(tmp_path, perigee_topics, database):
    """Scoring is stopped; people come back while it is away, and then the instants pass at which they would fall silent."""
    seed = choose_seed()
    instance = Instance(tmp_path, perigee_topics, database, **QUIET)
    torrent = TouchpointStream(perigee_topics.kafka, seed, people=SILENCES)
    silence = 60 * 86_400 * SECOND
    try:
        await asyncio.to_thread(instance.up, 1)
        due = time.time_ns() // 1_000 + (40 if LONG else 4) * SECOND
        old = list(people(SILENCES, due - silence, "old"))
        await publish(torrent, old)
        await instance.wait_until_idle(ignore=WAITS)
        ((timers,),) = await instance.fetch(
            "SELECT count(*) FROM scoring.timers WHERE due_at = $1", due
        )
        assert timers == SILENCES, "their silences are due at one instant"
        ManagedProcess(instance.stack.home, "scoring").stop()
        await publish(torrent, people(SILENCES, due - SECOND, "back"))
        assert time.time_ns() // 1_000 < due + GRACE, "what came back was on the topic in time"
        await torrent.send(BACKLOG - SILENCES)
        await last(max(0.0, (due + GRACE) / SECOND - time.time()) + 2)
        await asyncio.to_thread(instance.up, 1)
        directions = await check(instance, torrent)
        ((fell,),) = await instance.fetch(
            "SELECT count(*) FROM scoring.publications p JOIN scoring.identifiers i USING (contact_id) "
            "WHERE i.value LIKE 'silent%' AND p.dormant"
        )
        assert (fell, directions.get("dormancy", 0)) == (0, 0), "a backlog fires no false silence"
        print(f"{torrent.sent} touchpoints queued, {SILENCES} silences due meanwhile, {fell} fell")
    finally:
        await torrent.close()
        await asyncio.to_thread(instance.down)


def people(count, at, name):
    from libs.common.messages import Touchpoint

    for number in range(count):
        yield Touchpoint(
            workspace="default", source=name, message_id=f"{name}{number}", type="track", name="Product Viewed",
            occurred_at=at, received_at=at, user_id=f"silent{number}",
        )  # fmt: skip


async def publish(torrent, found):
    from libs.common.messages import build_message

    every = [
        build_message(
            t, key=t.routing_key(), message_id=t.message_id, source="/t", time=t.occurred_at
        )
        for t in found
    ]
    for begin in range(0, len(every), 2_000):
        assert not any(await torrent.publisher.publish(every[begin : begin + 2_000], 30))
