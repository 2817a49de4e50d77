"""CRM that follows Perigee on Kafka: the stage of each contact in SQLite, correct after any crash.

    python examples/subscribers/follow.py KAFKA FILE [--once]

The topic `contacts` is compacted and keeps the last snapshot of each contact, with the sequence of
its last stage change. So read it to its end, then follow it and `stage-changes`. Read the latter
from an hour before, since the two topics have no order between them. A change counts when its
sequence is above the stored one; otherwise it is a duplicate, or the snapshot contained it. The
offsets are stored in the transaction of the records. Needs aiokafka.
"""

import asyncio
import json
import sqlite3
import sys
import time

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

TABLES = """
CREATE TABLE IF NOT EXISTS people (
    contact TEXT, cycle TEXT, stage TEXT, sequence INTEGER, PRIMARY KEY (contact, cycle)
);
CREATE TABLE IF NOT EXISTS offsets (
    topic TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (topic, partition)
);
CREATE TABLE IF NOT EXISTS gone (contact TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS history (contact TEXT, cycle TEXT, sequence INTEGER, id TEXT UNIQUE);
"""
STAGE = b"perigee.stage-change.v1"
OVERLAP_MS = 3_600_000
"""Milliseconds of changes that are read before the first start: more than a snapshot lags."""


class GapError(Exception):
    """Changes are missing: the topic no longer has them. `GET /v1/stage-changes` does."""


def take_change(crm: sqlite3.Connection, change: dict) -> None:
    """Store a stage change unless it is stored. Raises GapError."""
    if crm.execute("SELECT 1 FROM gone WHERE contact = ?", (change["contact_id"],)).fetchone():
        return
    key = (change["contact_id"], change["cycle"])
    stored = crm.execute(
        "SELECT sequence FROM people WHERE contact = ? AND cycle = ?", key
    ).fetchone()
    if stored is not None and change["sequence"] <= stored[0]:
        return
    if stored is not None and change["sequence"] != stored[0] + 1:
        raise GapError(f"{key} is at {stored[0]}, and the next change is {change['sequence']}")
    crm.execute(
        "INSERT OR REPLACE INTO people VALUES (?, ?, ?, ?)",
        (*key, change["stage"]["to"], change["sequence"]),
    )
    crm.execute(
        "INSERT OR IGNORE INTO history VALUES (?, ?, ?, ?)",
        (*key, change["sequence"], change["id"]),
    )


def take_snapshot(crm: sqlite3.Connection, contact: str, snapshot: dict | None) -> None:
    """Store a snapshot; delete a contact that was merged or deleted."""
    if snapshot is None or snapshot.get("merged_into"):
        crm.execute("DELETE FROM people WHERE contact = ?", (contact,))
        crm.execute("INSERT OR IGNORE INTO gone VALUES (?)", (contact,))
        return
    # A contact may return by an unmerge.
    crm.execute("DELETE FROM gone WHERE contact = ?", (contact,))
    for cycle, state in snapshot.get("cycles", {}).items():
        crm.execute(
            "INSERT INTO people VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET stage = excluded.stage, sequence = excluded.sequence "
            "WHERE excluded.sequence > people.sequence",
            (contact, cycle, state["stage"], state["sequence"]),
        )


def take(crm: sqlite3.Connection, records: list[ConsumerRecord]) -> None:
    """Store records and their offsets in one transaction."""
    with crm:
        for record in records:
            kind = dict(record.headers).get("ce_type")
            if record.topic == "contacts":
                take_snapshot(
                    crm, record.key.decode(), json.loads(record.value) if record.value else None
                )
            elif kind == STAGE:  # other message types are ignored
                take_change(crm, json.loads(record.value))
            position = (record.topic, record.partition, record.offset + 1)
            crm.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", position)


async def follow(kafka: str, crm: sqlite3.Connection, *, once: bool) -> None:
    """Read the snapshots, then follow both topics; `once` ends at the end of the topics."""
    crm.executescript(TABLES)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        await consumer.topics()  # loads their partitions
        await read(consumer, crm, ["contacts"], to_the_end=True)
        await read(consumer, crm, ["contacts", "stage-changes"], to_the_end=once)
    finally:
        await consumer.stop()


async def read(
    consumer: AIOKafkaConsumer, crm: sqlite3.Connection, topics: list[str], *, to_the_end: bool
) -> None:
    """Read topics from the stored offsets."""
    partitions = [
        TopicPartition(t, p) for t in topics for p in sorted(consumer.partitions_for_topic(t) or ())
    ]
    consumer.assign(partitions)
    for partition, offset in (await starts(consumer, crm, partitions)).items():
        consumer.seek(partition, offset)
    ends = await consumer.end_offsets(partitions)
    while True:
        batches = await consumer.getmany(timeout_ms=300)
        # Changes first: a snapshot contains them, and the history would miss them.
        take(
            crm,
            [
                record
                for partition in sorted(batches, reverse=True)
                for record in batches[partition]
            ],
        )
        if to_the_end and all(
            [await consumer.position(partition) >= ends[partition] for partition in partitions]
        ):
            return


async def starts(
    consumer: AIOKafkaConsumer, crm: sqlite3.Connection, partitions: list[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the start offsets: stored ones, else the first snapshot and changes an hour ago."""
    stored = {
        TopicPartition(topic, partition): next_
        for topic, partition, next_ in crm.execute("SELECT * FROM offsets")
    }
    since = int(time.time() * 1000) - OVERLAP_MS
    offsets = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    recent = await consumer.offsets_for_times(
        {partition: since for partition in partitions if partition.topic == "stage-changes"}
    )
    offsets |= {partition: at.offset if at else ends[partition] for partition, at in recent.items()}
    return {partition: stored.get(partition, offset) for partition, offset in offsets.items()}


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], sqlite3.connect(sys.argv[2]), once="--once" in sys.argv))
