"""Wake-ups of background jobs: notifications, due instants, and the fallback for lost ones."""

import asyncio
import time

import pytest

from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.advisory_locks import SHARED_SECONDS, AdvisoryLockPool
from libs.common.db.connection import Session, connect
from libs.common.db.notifications import Wakeups, notify, with_notification
from libs.common.db.outbox import Outbox
from libs.common.db.outbox_relay import OutboxRelay
from libs.common.ids import ContactId
from libs.common.service_runner import run_when_due
from services.ingest.domain.source import Source
from services.ingest.repository import sources
from services.orchestrator.repository import changes, echoes, sweeps
from services.orchestrator.repository.sweeps import SweepRow
from services.scoring.repository import fold_states, identity_links, schedule
from services.scoring.repository.fold_states import RefoldRequest
from services.scoring.repository.touchpoint_history import FIRST_KEY
from tests.support.kafka import make_topic, numbered_message
from tests.support.outbox import unpublished_rows
from tests.support.waiting import wait_until

NEVER = 300.0
"""Fallback (s) longer than every test: a job that runs again was notified."""
LINK = (DEFAULT_WORKSPACE, (("user_id", "a"), ("user_id", "b")))


@pytest.fixture
async def connection(database):
    opened = await connect(database, application="test")
    yield opened
    await opened.close()


class Job:
    """Deletes deferred links one by one, and counts its runs."""

    def __init__(self, database):
        self.session = Session(database, "test-job")
        self.runs = 0

    async def run(self):
        async with self.session.acquire() as connection:
            link = await identity_links.get_deferred(connection)
            if link is not None:
                await identity_links.delete_deferred(connection, link)
        self.runs += 1
        return link is not None

    async def has_run(self):
        return self.runs

    async def is_idle_and_empty(self):
        async with self.session.acquire() as connection:
            return await identity_links.get_deferred(connection) is None


class Process:
    """Process with the job and its listener."""

    def __init__(self, database, fallback):
        self.stop = asyncio.Event()
        self.job = Job(database)
        self.wakeups = Wakeups(database, "test-wakeups")
        wake = self.wakeups.subscribe(identity_links.DEFERRED_CHANNEL)
        self.tasks = [
            asyncio.create_task(
                run_when_due(self.stop, self.job.run, wake, pace=0.01, fallback=fallback)
            ),
            asyncio.create_task(self.wakeups.run(self.stop)),
        ]

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.stop.set()
        await asyncio.wait_for(asyncio.gather(*self.tasks), 5)
        await self.job.session.close()


async def is_listening(connection, application):
    """Return whether the listener has sent LISTEN and is idle."""
    return await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'idle' "
        "AND query LIKE 'LISTEN%' AND datname = current_database()",
        application,
    )


async def test_notification_runs_job_at_once(database, connection):
    async with Process(database, fallback=NEVER) as process:
        await wait_until(lambda: is_listening(connection, "test-wakeups"))
        await wait_until(process.job.has_run)

        async with connection.transaction():
            await identity_links.insert_deferred(connection, [LINK])

        await wait_until(process.job.is_idle_and_empty)


async def test_lost_notification_is_caught_by_fallback(database, connection):
    async with Process(database, fallback=0.5) as process:
        await wait_until(process.job.has_run)

        await connection.execute("INSERT INTO scoring.regroups VALUES ('w', 'a', 'b', 'c', 'd')")

        await wait_until(process.job.is_idle_and_empty)


async def test_lost_listener_reconnects_and_wakes_jobs(database, connection):
    async with Process(database, fallback=NEVER) as process:
        await wait_until(lambda: is_listening(connection, "test-wakeups"))
        await wait_until(process.job.has_run)

        async with connection.transaction():
            # The insert commits after the listener has ended, so it cannot be notified.
            await connection.execute("INSERT INTO scoring.regroups VALUES ('w','a','b','c','d')")
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'test-wakeups' AND datname = current_database()"
            )

        await wait_until(process.job.is_idle_and_empty)


@pytest.mark.parametrize("how", ["notified", "lost notification", "lost connection"])
async def test_relay_publishes_without_polling(servers, database, publisher, connection, how):
    topic, stop = await make_topic(servers.kafka), asyncio.Event()
    fallback = 0.5 if how == "lost notification" else NEVER
    relay = OutboxRelay(database, "scoring", 3, publisher, fallback=fallback)
    running = asyncio.create_task(relay.run(stop))
    await wait_until(lambda: is_idle(connection, "scoring-relay"))

    if how == "lost connection":
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'scoring-relay' AND datname = current_database()"
        )
    if how == "lost notification":
        await connection.execute(
            "INSERT INTO scoring.outbox (shard, topic, key, value, headers) "
            "VALUES (0, $1, 'k', '1', '\\x90')",
            topic,
        )
    else:
        async with connection.transaction():
            await Outbox("scoring", 3).insert_messages(connection, [numbered_message(topic, 1)])

    async def is_published():
        return not await unpublished_rows(database)

    await wait_until(is_published)
    stop.set()
    await asyncio.wait_for(running, 5)


async def is_idle(connection, application):
    """Return whether a relay has queried its outbox and is idle."""
    return await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'idle' "
        "AND query LIKE '%outbox o%' AND datname = current_database()",
        application,
    )


async def test_process_with_every_lock_rebalances_at_join(database):
    first = await connect(database, application="test")
    second = await connect(database, application="test")
    pools = AdvisoryLockPool("perigee.test"), AdvisoryLockPool("perigee.test")
    wakes = asyncio.Event(), asyncio.Event()
    await pools[0].register(first, wakes[0])
    await asyncio.wait_for(wakes[0].wait(), 5)
    await pools[0].rebalance(first, range(4))
    wakes[0].clear()
    alone = pools[0].seconds_until_rebalance()

    await pools[1].register(second, wakes[1])
    await asyncio.wait_for(wakes[0].wait(), 5)
    due = pools[0].seconds_until_rebalance()
    await pools[0].rebalance(first, range(4))
    await pools[1].rebalance(second, range(4))

    assert alone > SHARED_SECONDS
    assert due == 0
    assert (pools[0].held, pools[1].held) == ({0, 1}, {2, 3})
    assert pools[0].seconds_until_rebalance() <= SHARED_SECONDS
    await first.close()
    await second.close()


async def test_frontier_reports_due_timers(connection):
    await connection.execute("INSERT INTO scoring.timers VALUES ('c', 'buyer@1', $1)", 50_000_000)

    before = await schedule.upsert_frontier(connection, {("t", 0): 59_999_999})
    first = await schedule.upsert_frontier(connection, {("t", 0): 60_000_000})
    behind = await schedule.upsert_frontier(connection, {("t", 1): 10_000_000})
    caught_up = await schedule.upsert_frontier(connection, {("t", 1): 61_000_000})

    assert [before, first, caught_up] == [False, True, True]
    assert not await schedule.upsert_frontier(connection, {})
    assert isinstance(behind, bool)


WRITES = {
    fold_states.REFOLDS_CHANNEL: lambda c: fold_states.enqueue_refolds(
        c, {ContactId("c"): RefoldRequest("corrected", FIRST_KEY)}
    ),
    identity_links.DEFERRED_CHANNEL: lambda c: identity_links.insert_deferred(c, [LINK]),
    echoes.ECHOES_CHANNEL: lambda c: echoes.insert_echoes(c, [b"{}", b"{}"]),
    sweeps.SWEEPS_CHANNEL: lambda c: sweeps.insert_sweeps(
        c, [SweepRow("s", DEFAULT_WORKSPACE, "p", None, "", None)], 1
    ),
    changes.CHANGES_CHANNEL: lambda c: changes.update_change_counter(c, DEFAULT_WORKSPACE),
    sources.SOURCES_CHANNEL: lambda c: sources.upsert_source(c, Source(DEFAULT_WORKSPACE, "shop")),
}


@pytest.mark.parametrize("channel", WRITES)
async def test_write_notifies_once_when_it_commits(database, connection, channel):
    listener, heard, after = await connect(database, application="test"), [], asyncio.Event()
    await listener.add_listener(channel, lambda *_: heard.append(channel))
    await listener.add_listener("test_after", lambda *_: after.set())

    async with connection.transaction():
        await WRITES[channel](connection)
        await WRITES[channel](connection)
    await notify(connection, "test_after")
    await asyncio.wait_for(after.wait(), 5)

    assert heard == [channel]
    await listener.close()


async def test_statement_without_changes_sends_no_notification(database, connection):
    listener, heard, after = await connect(database, application="test"), [], asyncio.Event()
    await listener.add_listener("test_changed", lambda *_: heard.append(1))
    await listener.add_listener("test_after", lambda *_: after.set())

    await connection.execute(
        with_notification("DELETE FROM scoring.regroups WHERE type = $1", "test_changed"), "x"
    )
    await notify(connection, "test_after")
    await asyncio.wait_for(after.wait(), 5)

    assert heard == []
    await listener.close()


async def test_stop_ends_a_waiting_job():
    stop, wake = asyncio.Event(), asyncio.Event()

    async def job():
        return False

    running = asyncio.create_task(run_when_due(stop, job, wake, fallback=NEVER))
    began = time.monotonic()
    stop.set()
    await asyncio.wait_for(running, 5)

    assert time.monotonic() - began < 5


async def test_job_runs_when_its_next_row_is_due():
    stop, began, runs = asyncio.Event(), time.monotonic(), []

    async def job():
        runs.append(time.monotonic() - began)
        if len(runs) == 2:
            stop.set()
        return False

    async def seconds_until_due():
        return 0.3

    await asyncio.wait_for(
        run_when_due(stop, job, asyncio.Event(), seconds_until_due, pace=0.01, fallback=NEVER),
        10,
    )

    assert runs[1] >= 0.3


async def test_frequent_notifications_keep_the_pace():
    stop, wake, runs = asyncio.Event(), asyncio.Event(), []

    async def job():
        runs.append(time.monotonic())
        wake.set()
        if len(runs) == 4:
            stop.set()
        return False

    await asyncio.wait_for(run_when_due(stop, job, wake, pace=0.1, fallback=NEVER), 10)

    assert runs[-1] - runs[0] >= 0.29
