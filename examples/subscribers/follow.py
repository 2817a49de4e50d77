"""A CRM that follows Perigee on Kafka: contacts' stages in a SQLite file, correct after any crash.

    python examples/subscribers/follow.py KAFKA FILE [--once]

`contacts` is compacted and has the last snapshot of every contact, with the sequence of its last
stage change. The program reads it to its end, then follows it and `stage-changes`. It reads
changes from one hour before its start, because the two topics have no order between them. A change
with a sequence at or below the known one is a duplicate, or part of the snapshot. Offsets are
committed in the transaction of the records, so no record is skipped. Needs aiokafka.
"""

import asyncio
import json
import sqlite3
import sys
import time

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

TABLES = """
CREATE TABLE IF NOT EXISTS people (
    contact TEXT, cycle TEXT, stage TEXT, sequence INTEGER, PRIMARY KEY (contact, cycle));
CREATE TABLE IF NOT EXISTS offsets (
    topic TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS gone (contact TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS history (contact TEXT, cycle TEXT, sequence INTEGER, id TEXT UNIQUE);
"""
STAGE = b"perigee.stage-change.v1"
BEFORE = 3_600_000
"""Changes are read from this long before the first start, in milliseconds; snapshots lag less."""


class GapError(Exception):
    """A change is missing: older than the topic keeps. `GET /v1/stage-changes` has it."""


def take_change(crm: sqlite3.Connection, change: dict) -> None:
    """Apply a stage change, unless it is known. Raises GapError."""
    if crm.execute("SELECT 1 FROM gone WHERE contact = ?", (change["contact_id"],)).fetchone():
        return
    who = (change["contact_id"], change["cycle"])
    known = crm.execute(
        "SELECT sequence FROM people WHERE contact = ? AND cycle = ?", who
    ).fetchone()
    if known is not None and change["sequence"] <= known[0]:
        return
    if known is not None and change["sequence"] != known[0] + 1:
        raise GapError(f"{who} is at {known[0]}, and what comes is {change['sequence']}")
    crm.execute(
        "INSERT OR REPLACE INTO people VALUES (?, ?, ?, ?)",
        (*who, change["stage"]["to"], change["sequence"]),
    )
    crm.execute(
        "INSERT OR IGNORE INTO history VALUES (?, ?, ?, ?)",
        (*who, change["sequence"], change["id"]),
    )


def take_snapshot(crm: sqlite3.Connection, contact: str, snapshot: dict | None) -> None:
    """Apply a snapshot; a merged or deleted contact is removed."""
    if snapshot is None or snapshot.get("merged_into"):
        crm.execute("DELETE FROM people WHERE contact = ?", (contact,))
        crm.execute("INSERT OR IGNORE INTO gone VALUES (?)", (contact,))
        return
    # A contact that was merged and is unmerged comes back.
    crm.execute("DELETE FROM gone WHERE contact = ?", (contact,))
    for cycle, state in snapshot.get("cycles", {}).items():
        crm.execute(
            "INSERT INTO people VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET stage = excluded.stage, sequence = excluded.sequence "
            "WHERE excluded.sequence > people.sequence",
            (contact, cycle, state["stage"], state["sequence"]),
        )


def take(crm: sqlite3.Connection, records: list[ConsumerRecord]) -> None:
    """Apply records and commit their offsets in one transaction."""
    with crm:
        for record in records:
            kind = dict(record.headers).get("ce_type")
            if record.topic == "contacts":
                take_snapshot(
                    crm, record.key.decode(), json.loads(record.value) if record.value else None
                )
            elif kind == STAGE:  # other and later types of message are skipped
                take_change(crm, json.loads(record.value))
            place = (record.topic, record.partition, record.offset + 1)
            crm.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", place)


async def follow(kafka: str, crm: sqlite3.Connection, *, once: bool) -> None:
    """Read the snapshot, then follow; `once` ends where the topics end."""
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
    places = [
        TopicPartition(t, p) for t in topics for p in sorted(consumer.partitions_for_topic(t) or ())
    ]
    consumer.assign(places)
    for place, offset in (await starts(consumer, crm, places)).items():
        consumer.seek(place, offset)
    ends = await consumer.end_offsets(places)
    while True:
        found = await consumer.getmany(timeout_ms=300)
        # Changes before snapshots: a change that a snapshot covers would not enter the history.
        take(crm, [record for place in sorted(found, reverse=True) for record in found[place]])
        if to_the_end and all([await consumer.position(place) >= ends[place] for place in places]):
            return


async def starts(
    consumer: AIOKafkaConsumer, crm: sqlite3.Connection, places: list[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the first offsets: stored ones, else all snapshots and the last hour of changes."""
    known = {
        TopicPartition(topic, partition): next_
        for topic, partition, next_ in crm.execute("SELECT * FROM offsets")
    }
    since = int(time.time() * 1000) - BEFORE
    found = await consumer.beginning_offsets(places)
    ends = await consumer.end_offsets(places)
    recent = await consumer.offsets_for_times(
        {place: since for place in places if place.topic == "stage-changes"}
    )
    found |= {place: at.offset if at else ends[place] for place, at in recent.items()}
    return {place: known.get(place, offset) for place, offset in found.items()}


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], sqlite3.connect(sys.argv[2]), once="--once" in sys.argv))
