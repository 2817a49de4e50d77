"""Kafka or PostgreSQL away: nothing accepted is lost, and no effect is repeated.

These tests kill servers, so they run embedded servers that no other test uses.
"""

import asyncio
import contextlib
import os
import signal
import time

import httpx2
import pytest

from cli.servers.managed_process import ManagedProcess
from cli.servers.service import ServiceProcess
from tests.support.full_instance import FullInstance
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(560)


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    running = FullInstance(tmp_path_factory.mktemp("instance"))
    yield running
    running.down()


@pytest.fixture
def key(instance):
    return instance.environment["WRITE_KEY"]


async def start_all(instance):
    await asyncio.to_thread(instance.up)


async def track(instance, key, call):
    """Return the response and the seconds of one call."""
    started = time.monotonic()
    async with httpx2.AsyncClient(auth=(key, ""), timeout=20, trust_env=False) as client:
        response = await client.post(f"{instance.ingest_url}/v1/track", json=call)
    return response, time.monotonic() - started


async def wait_for_response(address):
    """Wait until a service answers with any status."""
    async with httpx2.AsyncClient(trust_env=False) as client:

        async def answered():
            with contextlib.suppress(httpx2.TransportError):
                return await client.get(address)

        await wait_until(answered, what=f"a response of {address}")


def log_of(instance, name):
    return ManagedProcess(instance.stack.home, name).log_path.read_text()


def kill(instance, name):
    os.kill(ManagedProcess(instance.stack.home, name).pid, signal.SIGKILL)


async def test_kafka_outage_is_503_and_loses_nothing(instance, key):
    await instance.send(key, instance.calls(200))
    kill(instance, "kafka")

    response, seconds = await track(
        instance, key, {"event": "x", "userId": "u", "messageId": "never-counted"}
    )

    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert seconds < 5.5

    sending = asyncio.create_task(instance.send(key, instance.calls(200)))
    await start_all(instance)
    await sending
    await instance.wait_until_idle()
    stored = await instance.fetch(
        "SELECT count(*) FROM scoring.touchpoints WHERE message_id = 'never-counted'"
    )

    assert stored[0][0] <= 1, "a 503 may have been stored, but only once"

    instance.sent += stored[0][0]
    await instance.check()


async def test_postgres_outage_leaves_ingest_available(instance, key):
    kill(instance, "postgres")

    assert await instance.send(key, instance.calls(300)) == 300

    await start_all(instance)
    await instance.check()


async def test_outage_of_both_servers_loses_nothing(instance, key):
    kill(instance, "postgres")
    kill(instance, "kafka")
    sending = asyncio.create_task(instance.send(key, instance.calls(100)))
    await start_all(instance)
    await sending
    await instance.check()


async def test_services_wait_for_absent_servers(instance, key):
    names = ("ingest", "scoring", "orchestrator")
    for name in names:
        ManagedProcess(instance.stack.home, name).stop()
    kill(instance, "postgres")
    kill(instance, "kafka")
    log_lengths = {name: len(log_of(instance, name)) for name in names}
    for name in names:
        ServiceProcess(instance.stack.home, name, instance.environment).start()
    for name in names:
        await wait_until(
            lambda name=name: log_of(instance, name)[log_lengths[name] :].count("refused") > 1,
            what=f"two attempts of {name} to reach a server",
        )

    await wait_for_response(f"{instance.ingest_url}/livez")

    assert all(ManagedProcess(instance.stack.home, name).pid for name in names), "a service gave up"

    response, seconds = await track(instance, key, {"event": "x", "userId": "u"})
    assert (response.status_code, seconds < 5.5) == (503, True)
    assert "PostgreSQL" in response.json()["message"]

    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{instance.ingest_url}/livez")).status_code == 200
        ready = await client.get(f"{instance.ingest_url}/readyz")

    assert ready.status_code == 503
    assert all(ready.json()["checks"].values())

    sending = asyncio.create_task(instance.send(key, instance.calls(50)))
    await start_all(instance)
    await sending
    await instance.check()
