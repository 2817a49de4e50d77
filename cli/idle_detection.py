"""When an instance has nothing left to do: no lag, empty queues, no timer due."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from libs.common.db.connection import UNAVAILABLE, Connection, connect
from libs.common.errors import Unavailable
from libs.common.topics import TOPICS
from services.scoring.repository import schedule

CONSUMED = (
    ("scoring", "touchpoints"),
    ("orchestrator", "signals"),
    ("orchestrator", "stage-changes"),
    ("orchestrator", "compelling-events"),
)

_QUEUES = {
    "queued re-folds": "SELECT count(*) FROM scoring.refolds",
    "queued re-folds of accounts": "SELECT count(*) FROM scoring.account_refolds",
    "people to be joined": "SELECT count(*) FROM scoring.regroups",
    "cycle versions on their way": "SELECT count(*) FROM scoring.cycle_versions "
    "WHERE status = 'shadow' OR told_to IS NOT NULL OR swept_to IS NOT NULL",
    "scoring's outbox": "SELECT count(*) FROM scoring.outbox WHERE refused IS NULL",
    "orchestrator's outbox": "SELECT count(*) FROM orchestrator.outbox WHERE refused IS NULL",
    "touchpoints on their way back": "SELECT count(*) FROM orchestrator.echoes",
    "sweeps under way": "SELECT count(*) FROM orchestrator.sweeps",
    "compelling events due": "SELECT count(*) FROM scoring.compelling_events "
    "WHERE next_at <= (extract(epoch FROM now()) * 1000000)::bigint",
    "enrollments due": "SELECT count(*) FROM orchestrator.enrollments e JOIN orchestrator.plays p USING (workspace, play) "
    "WHERE e.status = 'active' AND p.status = 'live' AND due_at <= (extract(epoch FROM now()) * 1000000)::bigint",
    "actions due": "SELECT count(*) FROM orchestrator.actions WHERE status IN ('pending', 'held', 'sending') "
    "AND due_at <= (extract(epoch FROM now()) * 1000000)::bigint",
}


async def get_end_offsets(bootstrap_servers: str) -> dict[tuple[str, int], int]:
    """Return the end offset of every partition."""
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    try:
        await consumer.start()
        places = []
        for topic in TOPICS:
            found = await consumer._client._wait_on_metadata(topic.name)  # noqa: F841, SLF001
            places += [
                TopicPartition(topic.name, p)
                for p in consumer.partitions_for_topic(topic.name) or ()
            ]
        offsets = await consumer.end_offsets(places)
        return {(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
    finally:
        await consumer.stop()


async def list_unfinished_work(
    connection: Connection, kafka_ends: dict[tuple[str, int], int], partitions: int
) -> list[str]:
    """Return what is still to do, as text; nothing when all is quiet. The connection may be in a snapshot."""
    found = []
    for schema, topic in CONSUMED:
        rows = await connection.fetch(
            f"SELECT partition, next_offset FROM {schema}.offsets WHERE topic = $1",  # noqa: S608
            topic,
        )
        done = {r[0]: r[1] for r in rows}
        lag = sum(end - done.get(p, 0) for (name, p), end in kafka_ends.items() if name == topic)
        if lag:
            found.append(f"{schema} lags {lag} on {topic}")
    for name, query in _QUEUES.items():
        count = await connection.fetchval(query)
        if count:
            found.append(f"{count} {name}")
    frontier = await schedule.get_frontier(connection, partitions)
    if frontier is None:
        found.append("no frontier yet")
    else:
        due = await connection.fetchval(
            "SELECT count(*) FROM scoring.timers WHERE due_at <= $1", frontier
        )
        if due:
            found.append(f"{due} timers due")
    return found


async def wait_until_idle(
    environment: dict[str, str], seconds: float, say: Callable[[str], None]
) -> Connection | None:
    """Return a connection in the snapshot in which everything was quiet, or None when `seconds` are over."""
    end = time.monotonic() + seconds
    told = 0.0
    while True:
        connection = None
        try:
            kafka_ends = await get_end_offsets(environment["KAFKA_BOOTSTRAP_SERVERS"])
            connection = await connect(environment["DATABASE_URL"], application="perigee-check")
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            left = await list_unfinished_work(
                connection, kafka_ends, int(environment.get("PERIGEE_PARTITIONS", "6"))
            )
        except (KafkaError, *UNAVAILABLE, Unavailable) as error:
            left = [f"a server is away ({type(error).__name__})"]
        if not left:
            return connection
        if connection is not None:
            await connection.close(timeout=5)
        if time.monotonic() > end:
            return None
        if time.monotonic() - told > 3:
            say(f"waiting: {', '.join(left)}")
            told = time.monotonic()
        await asyncio.sleep(0.3)
