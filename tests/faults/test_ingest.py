"""The ingest API under abuse: malformed requests, requests without an end, slow clients.

A short form runs in `make test`, the long one (50,000 requests, 500 slow clients) in
`make test-faults`. Seeds are printed; PERIGEE_SEED repeats a run.
"""

import asyncio
import random
import time
from collections import Counter

import httpx2
import pytest

from libs.common.messages import Touchpoint, decode_value
from tests.support.instance import PARTITIONS, run_ingest_only
from tests.support.kafka import read_topic
from tests.support.malformed_requests import MalformedRequests
from tests.support.progress import LONG, choose_seed, report_progress
from tests.support.waiting import last

REQUESTS, SLOW_CLIENTS = (50_000, 500) if LONG else (2_500, 60)
CONCURRENCY = 40
pytestmark = pytest.mark.timeout(1_800 if LONG else 200)


@pytest.fixture
def ingest(tmp_path, perigee_topics, database):
    with run_ingest_only(tmp_path, perigee_topics, database) as instance:
        yield instance


def ingest_port(instance):
    return int(instance.ingest_url.rpartition(":")[2])


async def send_raw(port, request):
    """Send raw bytes; return the status, or None when the server closed without an answer."""
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


async def test_malformed_requests_are_refused_and_ingest_survives(ingest):
    malformed_requests = MalformedRequests(choose_seed(), await ingest.create_source("key"))
    statuses = Counter()
    memory_before = resident_megabytes(ingest)

    async def send_malformed():
        while sum(statuses.values()) < REQUESTS:
            request = malformed_requests.next_request()
            status = await send_raw(ingest_port(ingest), request)
            statuses[status] += 1
            report_progress(f"malformed: {sum(statuses.values()):,} of {REQUESTS:,}")
            assert status is None or status < 500 or status == 503, (status, request[:2_000])

    await asyncio.gather(*(send_malformed() for _ in range(CONCURRENCY)))
    print(
        f"{sum(statuses.values())} requests: {dict(statuses.most_common())}; "
        f"{memory_before:.0f} to {resident_megabytes(ingest):.0f} MB"
    )
    assert statuses[200] and statuses[400] and statuses[413], "the requests are of too few kinds"
    await check_every_partition(ingest)
    records = await read_topic(ingest.servers.kafka, "touchpoints", PARTITIONS)
    for record in records:
        decode_value(Touchpoint, record.value)


async def check_every_partition(instance):
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


def resident_megabytes(instance):
    """Return the resident megabytes of the ingest process."""
    import psutil

    return psutil.Process(instance.pid("ingest")).memory_info().rss / 1e6


async def test_unauthenticated_and_pipelined_requests_are_cut_off(
    ingest,
):
    key = await ingest.create_source("key")
    pipelined = (
        b"GET /livez HTTP/1.1\r\nhost: ingest\r\n\r\n"
        b"POST /v1/track HTTP/1.1\r\nhost: ingest\r\ncontent-length: 9000\r\n\r\n{"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", ingest_port(ingest))
    writer.write(pipelined)
    started = time.monotonic()
    trickled_upload = asyncio.create_task(
        send_bytewise(ingest_port(ingest), b"/admin/v1/imports?source=x&name=x.csv")
    )

    pipelined_answer = await asyncio.wait_for(reader.read(-1), 30)

    assert pipelined_answer.startswith(b"HTTP/1.1 200")
    assert time.monotonic() - started < 20

    writer.close()
    assert b" 401 " in await asyncio.wait_for(trickled_upload, 20), (
        "an unauthenticated upload is not read to its end"
    )

    head = b"POST /admin/v1/sources HTTP/1.1\r\nhost: ingest\r\ncontent-length: 30000000\r\n\r\n"

    assert await send_raw(ingest_port(ingest), head) == 401

    async with httpx2.AsyncClient(trust_env=False) as client:
        admin = {"authorization": f"Bearer {ingest.environment['PERIGEE_ADMIN_KEY']}"}
        response = await client.post(
            f"{ingest.ingest_url}/admin/v1/sources", headers=admin, content=b" " * 2_000_001
        )
        assert response.status_code == 413
    stalled_connections = [
        await asyncio.open_connection("127.0.0.1", ingest_port(ingest)) for _ in range(20)
    ]
    for _, stalled_writer in stalled_connections:
        stalled_writer.write(
            b"POST /v1/track HTTP/1.1\r\nhost: ingest\r\ncontent-length: 4000000\r\n\r\n"
            + b" " * 3_900_000
        )
    # Either all bytes are at the server or it reads no more of them.
    await asyncio.wait(
        [asyncio.create_task(stalled_writer.drain()) for _, stalled_writer in stalled_connections],
        timeout=2,
    )
    async with httpx2.AsyncClient(auth=(key, ""), trust_env=False) as client:
        response = await client.post(
            f"{ingest.ingest_url}/v1/track", json={"event": "x", "userId": "u"}
        )
        assert response.status_code == 200, "requests without a key use up the byte budget"
    for _, stalled_writer in stalled_connections:
        stalled_writer.close()


async def send_bytewise(port, path):
    """Send a request byte by byte, past the answer; return all bytes received until the close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST %b HTTP/1.1\r\nhost: ingest\r\ncontent-length: 99999\r\n\r\n" % path)
    answer = asyncio.create_task(reader.read(-1))
    while not answer.done():
        writer.write(b" ")
        await asyncio.wait([answer], timeout=0.5)
    writer.close()
    return answer.result()


async def test_slow_clients_are_cut_off(ingest):
    key = await ingest.create_source("key")
    calm_p99 = await p99_of_good_clients(ingest, key, last(1))
    slow = [
        asyncio.create_task(send_slowly(ingest_port(ingest), number))
        for number in range(SLOW_CLIENTS)
    ]
    cut_off = asyncio.gather(*slow)
    loaded_p99 = await p99_of_good_clients(ingest, key, asyncio.wait_for(cut_off, 60))
    print(f"p99: {calm_p99:.1f} ms alone, {loaded_p99:.1f} ms with {SLOW_CLIENTS} slow clients")


async def send_slowly(port, number):
    """Send a request byte by byte, its head or its body, until the connection is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /v1/track HTTP/1.1\r\nhost: ingest\r\ncontent-length: 1000\r\n\r\n"
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


async def p99_of_good_clients(instance, key, meanwhile):
    """Return the p99 in milliseconds of eight clients that send calls until `meanwhile` ends."""
    latencies = []
    load = asyncio.ensure_future(meanwhile)

    async def send_calls(number):
        async with httpx2.AsyncClient(auth=(key, ""), timeout=20, trust_env=False) as client:
            while not load.done():
                started = time.perf_counter()
                call = {"event": "x", "userId": f"u{number}"}
                assert (
                    await client.post(f"{instance.ingest_url}/v1/track", json=call)
                ).status_code == 200
                latencies.append((time.perf_counter() - started) * 1_000)
                await last(0.02)

    await asyncio.gather(*(send_calls(number) for number in range(8)))
    await load
    return sorted(latencies)[int(len(latencies) * 0.99)]
