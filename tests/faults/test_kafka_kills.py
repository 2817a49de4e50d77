"""Kafka killed while clients send: each touchpoint answered 200 is on the topic.

The short form kills Kafka twice, the long one (`make test-faults`) ten times. Seeds are printed;
PERIGEE_SEED repeats a run.
"""

import asyncio
import base64
import gzip
import json
import os
import random
import signal
from collections import Counter

import httpx2
import pytest

from cli.preparation import migrate
from cli.servers.managed_process import ManagedProcess
from libs.common.kafka.admin import apply_topics
from libs.common.messages import Touchpoint, decode_value
from tests.support.full_instance import FullInstance
from tests.support.instance import PARTITIONS
from tests.support.kafka import read_topic
from tests.support.progress import LONG, choose_seed, report_progress
from tests.support.waiting import last, wait_until

KILLS = 10 if LONG else 2
pytestmark = pytest.mark.timeout(1_800 if LONG else 200)


class IngestAndServers(FullInstance):
    """Kafka, PostgreSQL and ingest."""

    def up(self, scoring=0):
        servers = self.stack.servers()
        for server in servers:
            server.start()
        for server in servers:
            server.wait()
        asyncio.run(migrate(self.environment))
        asyncio.run(apply_topics(self.servers.kafka, PARTITIONS))
        ingest = self.stack.services()[0]
        ingest.start()
        ingest.wait()


async def test_kafka_kills_lose_no_acknowledged_touchpoint(tmp_path):
    chance = random.Random(choose_seed())
    instance = await asyncio.to_thread(IngestAndServers, tmp_path)
    try:
        key = instance.environment["WRITE_KEY"]
        answered, stop = set(), asyncio.Event()
        clients = [
            asyncio.create_task(send_until_stopped(instance, key, n, answered, stop))
            for n in range(12)
        ]
        for number in range(KILLS):
            report_progress(
                f"Kafka killed {number} of {KILLS} times, {len(answered):,} ids answered"
            )
            await last(chance.uniform(0.5, 2))
            os.kill(ManagedProcess(instance.stack.home, "kafka").pid, signal.SIGKILL)
            await last(chance.uniform(0, 2))
            await asyncio.to_thread(instance.stack.kafka.start)
            await asyncio.to_thread(instance.stack.kafka.wait)
        answered_before = len(answered)
        await wait_until(
            lambda: len(answered) >= answered_before + 100, what="traffic after the last start"
        )
        stop.set()
        tries = sum(await asyncio.gather(*clients))
        records = await read_topic(instance.servers.kafka, "touchpoints", PARTITIONS)
        message_counts = Counter(
            decode_value(Touchpoint, record.value).message_id for record in records
        )

        print(
            f"{len(answered)} ids answered 200 in {tries} requests, {KILLS} kills; "
            f"{len(records) - len(message_counts)} duplicates"
        )

        assert set(message_counts) == answered
    finally:
        await asyncio.to_thread(instance.down)


async def send_until_stopped(instance, key, number, answered, stop):
    """Send in one of four ways, each request until it gets 200; return the tries."""
    auth = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
    tries = request_number = 0
    async with httpx2.AsyncClient(timeout=20, trust_env=False) as client:
        while not stop.is_set():
            request_number += 1
            ids = [
                f"c{number}-{request_number}-{n}" for n in range(1 if number % 4 in (0, 3) else 25)
            ]
            calls = [
                {"type": "track", "event": "x", "userId": f"u{number}", "messageId": message_id}
                for message_id in ids
            ]
            while True:
                tries += 1
                try:
                    answer = await post_calls(
                        client, instance.ingest_url, number % 4, calls, auth, key
                    )
                except httpx2.HTTPError:
                    continue
                if answer.status_code == 200:
                    answered.update(ids)
                    break
                assert answer.status_code == 503, answer.text
                await last(0.2)
            await last(0.01)
    return tries


async def post_calls(client, url, kind, calls, auth, key):
    """Send calls as an SDK, as a gzipping SDK, as a beacon or as a tracking pixel."""
    body = json.dumps({"batch": calls}).encode()
    if kind == 0:
        return await client.post(f"{url}/v1/track", json=calls[0], headers={"authorization": auth})
    if kind == 1:
        headers = {"authorization": auth, "content-encoding": "gzip"}
        return await client.post(f"{url}/v1/batch", content=gzip.compress(body), headers=headers)
    if kind == 2:
        return await client.post(f"{url}/beacon/v1/batch", params={"writeKey": key}, content=body)
    query = {
        "writeKey": key,
        "event": "x",
        "userId": calls[0]["userId"],
        "messageId": calls[0]["messageId"],
    }
    return await client.get(f"{url}/v1/pixel.gif", params=query)
