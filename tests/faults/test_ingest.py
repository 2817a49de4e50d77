"""The door under abuse: rubbish of every kind, clients that never end a request, Kafka killed while others send.

A short form runs in `make test`, the long one (50,000 requests, 500 slow clients, 10 kills) in `make test-faults`. Seeds are
printed; PERIGEE_SEED repeats one.
"""

import asyncio
import base64
import gzip
import json
import os
import random
import signal
import time
from collections import Counter

import httpx2
import pytest

from cli.preparation import migrate
from cli.servers.managed_process import ManagedProcess
from libs.common.kafka.admin import apply_topics
from libs.common.messages import Touchpoint, decode_value
from tests.support.full_instance import FullInstance
from tests.support.instance import PARTITIONS, run_ingest_only
from tests.support.kafka import read_topic
from tests.support.malformed_requests import MalformedRequests
from tests.support.progress import LONG, choose_seed, report_progress
from tests.support.waiting import last, wait_until

REQUESTS, SLOW, KILLS = (50_000, 500, 10) if LONG else (2_500, 60, 2)
TOGETHER = 40
pytestmark = pytest.mark.timeout(1_800 if LONG else 200)


@pytest.fixture
def ingest(tmp_path, perigee_topics, database):
    with run_ingest_only(tmp_path, perigee_topics, database) as found:
        yield found


def port_of(instance):
    return int(instance.ingest_url.rpartition(":")[2])


async def status_of(port, request):
    """Send bytes as they are; return the status, or None when the door closed without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        if random.random() < 0.5:
            writer.write_eof()
        line = await asyncio.wait_for(reader.readline(), 20)
        return int(line.split()[1]) if line.startswith(b"HTTP/") else None
    except (ConnectionError, OSError):
        return None
    finally:
        writer.close()


async def test_rubbish_is_refused_and_everything_goes_on(ingest):
    rubbish = MalformedRequests(choose_seed(), await ingest.create_source("key"))
    found = Counter()
    before = memory(ingest)

    async def one():
        while sum(found.values()) < REQUESTS:
            request = rubbish.next_request()
            status = await status_of(port_of(ingest), request)
            found[status] += 1
            report_progress(f"rubbish: {sum(found.values()):,} of {REQUESTS:,}")
            assert status is None or status < 500 or status == 503, (status, request[:2_000])

    await asyncio.gather(*(one() for _ in range(TOGETHER)))
    print(
        f"{sum(found.values())} requests: {dict(found.most_common())}; {before:.0f} to {memory(ingest):.0f} MB"
    )
    assert found[200] and found[400] and found[413], "the rubbish is of many kinds"
    await everywhere(ingest)
    records = await read_topic(ingest.servers.kafka, "touchpoints", PARTITIONS)
    for record in records:
        decode_value(Touchpoint, record.value)


async def everywhere(instance):
    """Assert that each partition takes a touchpoint."""
    calls = [
        {"type": "track", "event": "After", "userId": f"after-{n}", "messageId": f"after-{n}"}
        for n in range(100)
    ]
    await instance.send("key-of-key", calls)
    records = await read_topic(instance.servers.kafka, "touchpoints", PARTITIONS)
    after = [r for r in records if decode_value(Touchpoint, r.value).name == "After"]
    assert len(after) == 100
    assert {r.partition for r in after} == set(range(PARTITIONS))


def memory(instance):
    """Return the door's resident megabytes."""
    import psutil

    return psutil.Process(instance.pid("ingest")).memory_info().rss / 1e6


async def test_a_request_behind_another_one_has_an_end_too_and_the_admin_door_reads_nothing_for_strangers(
    ingest,
):
    key = await ingest.create_source("key")
    behind = b"GET /livez HTTP/1.1\r\nhost: door\r\n\r\nPOST /v1/track HTTP/1.1\r\nhost: door\r\ncontent-length: 9000\r\n\r\n{"
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(ingest))
    writer.write(behind)
    begun = time.monotonic()
    file = asyncio.create_task(trickled(port_of(ingest), b"/admin/v1/imports?source=x&name=x.csv"))
    said = await asyncio.wait_for(reader.read(-1), 30)
    assert said.startswith(b"HTTP/1.1 200")
    assert time.monotonic() - begun < 20
    writer.close()
    assert b" 401 " in await asyncio.wait_for(file, 20), (
        "who may send no file is not waited for either"
    )
    head = b"POST /admin/v1/sources HTTP/1.1\r\nhost: door\r\ncontent-length: 30000000\r\n\r\n"
    assert await status_of(port_of(ingest), head) == 401
    async with httpx2.AsyncClient(trust_env=False) as client:
        admin = {"authorization": f"Bearer {ingest.environment['PERIGEE_ADMIN_KEY']}"}
        answer = await client.post(
            f"{ingest.ingest_url}/admin/v1/sources", headers=admin, content=b" " * 2_000_001
        )
        assert answer.status_code == 413
    stalled = [await asyncio.open_connection("127.0.0.1", port_of(ingest)) for _ in range(20)]
    for _, one in stalled:
        one.write(
            b"POST /v1/track HTTP/1.1\r\nhost: door\r\ncontent-length: 4000000\r\n\r\n"
            + b" " * 3_900_000
        )
    # Either all bytes are at the server or it reads no more of them.
    await asyncio.wait([asyncio.create_task(one.drain()) for _, one in stalled], timeout=2)
    async with httpx2.AsyncClient(auth=(key, ""), trust_env=False) as client:
        answer = await client.post(
            f"{ingest.ingest_url}/v1/track", json={"event": "x", "userId": "u"}
        )
        assert answer.status_code == 200, "who has no key shuts the door to nobody"
    for _, one in stalled:
        one.close()


async def trickled(port, path):
    """Begin a request, go on byte by byte whatever is answered, and return what was, once the door has closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST %b HTTP/1.1\r\nhost: door\r\ncontent-length: 99999\r\n\r\n" % path)
    answer = asyncio.create_task(reader.read(-1))
    while not answer.done():
        writer.write(b" ")
        await asyncio.wait([answer], timeout=0.5)
    writer.close()
    return answer.result()


async def test_slow_clients_are_cut_off_and_cost_the_others_little(ingest):
    key = await ingest.create_source("key")
    calm = await good_clients(ingest, key, last(1))
    slow = [asyncio.create_task(slow_client(port_of(ingest), number)) for number in range(SLOW)]
    cut_off = asyncio.gather(*slow)
    beside = await good_clients(ingest, key, asyncio.wait_for(cut_off, 60))
    print(f"p99 of good clients: calm {calm:.1f} ms, beside {SLOW} slow ones {beside:.1f} ms")


async def slow_client(port, number):
    """Send a request byte by byte, its head or its body, until the connection is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /v1/track HTTP/1.1\r\nhost: door\r\ncontent-length: 1000\r\n\r\n"
    try:
        if number % 2:
            writer.write(head)
        for byte in (head[:-4] if number % 2 == 0 else b"{") + b" " * 1_000:
            writer.write(bytes([byte]))
            await writer.drain()
            done = asyncio.create_task(reader.read(100))
            await asyncio.wait([done], timeout=0.5)
            if done.done():
                return
            done.cancel()
        raise AssertionError("a slow request has no end")
    except (ConnectionError, OSError):
        pass
    finally:
        writer.close()


async def good_clients(instance, key, meanwhile):
    """Return the p99 in milliseconds of clients that send one call after another until `meanwhile` ends."""
    taken = []
    over = asyncio.ensure_future(meanwhile)

    async def one(number):
        async with httpx2.AsyncClient(auth=(key, ""), timeout=20, trust_env=False) as client:
            while not over.done():
                begun = time.perf_counter()
                call = {"event": "x", "userId": f"u{number}"}
                assert (
                    await client.post(f"{instance.ingest_url}/v1/track", json=call)
                ).status_code == 200
                taken.append((time.perf_counter() - begun) * 1_000)
                await last(0.02)

    await asyncio.gather(*(one(number) for number in range(8)))
    await over
    return sorted(taken)[int(len(taken) * 0.99)]


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


async def test_what_is_answered_200_is_on_the_topic_however_often_kafka_is_killed(tmp_path):
    chance = random.Random(choose_seed())
    whole = await asyncio.to_thread(IngestAndServers, tmp_path)
    try:
        key = whole.environment["WRITE_KEY"]
        answered, stop = set(), asyncio.Event()
        clients = [asyncio.create_task(mixed(whole, key, n, answered, stop)) for n in range(12)]
        for number in range(KILLS):
            report_progress(
                f"Kafka killed {number} of {KILLS} times, {len(answered):,} ids answered"
            )
            await last(chance.uniform(0.5, 2))
            os.kill(ManagedProcess(whole.stack.home, "kafka").pid, signal.SIGKILL)
            await last(chance.uniform(0, 2))
            await asyncio.to_thread(whole.stack.kafka.start)
            await asyncio.to_thread(whole.stack.kafka.wait)
        before = len(answered)
        await wait_until(lambda: len(answered) >= before + 100, what="traffic after the last start")
        stop.set()
        tries = sum(await asyncio.gather(*clients))
        records = await read_topic(whole.servers.kafka, "touchpoints", PARTITIONS)
        found = Counter(decode_value(Touchpoint, record.value).message_id for record in records)
        print(
            f"{len(answered)} ids answered 200 in {tries} requests, {KILLS} kills; {len(records) - len(found)} are there twice"
        )
        assert set(found) == answered
    finally:
        await asyncio.to_thread(whole.down)


async def mixed(whole, key, number, answered, stop):
    """Send in one of four ways, each request until it is answered 200; return how many tries it took."""
    auth = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
    tries = turn = 0
    async with httpx2.AsyncClient(timeout=20, trust_env=False) as client:
        while not stop.is_set():
            turn += 1
            ids = [f"c{number}-{turn}-{n}" for n in range(1 if number % 4 in (0, 3) else 25)]
            calls = [
                {"type": "track", "event": "x", "userId": f"u{number}", "messageId": one}
                for one in ids
            ]
            while True:
                tries += 1
                try:
                    answer = await way(client, whole.ingest_url, number % 4, calls, auth, key)
                except httpx2.HTTPError:
                    continue
                if answer.status_code == 200:
                    answered.update(ids)
                    break
                assert answer.status_code == 503, answer.text
                await last(0.2)
            await last(0.01)
    return tries


async def way(client, door, kind, calls, auth, key):
    """Send calls as an SDK, a gzipping one, a beacon, or a picture does."""
    body = json.dumps({"batch": calls}).encode()
    if kind == 0:
        return await client.post(f"{door}/v1/track", json=calls[0], headers={"authorization": auth})
    if kind == 1:
        headers = {"authorization": auth, "content-encoding": "gzip"}
        return await client.post(f"{door}/v1/batch", content=gzip.compress(body), headers=headers)
    if kind == 2:
        return await client.post(f"{door}/beacon/v1/batch", params={"writeKey": key}, content=body)
    query = {
        "writeKey": key,
        "event": "x",
        "userId": calls[0]["userId"],
        "messageId": calls[0]["messageId"],
    }
    return await client.get(f"{door}/v1/pixel.gif", params=query)
