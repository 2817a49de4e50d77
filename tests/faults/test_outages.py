"""Kafka or PostgreSQL away: nothing accepted is lost, nothing is done twice.

These tests kill servers, so they run embedded ones of their own whatever the others use.
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
def whole(tmp_path_factory):
    found = FullInstance(tmp_path_factory.mktemp("whole"))
    yield found
    found.down()


@pytest.fixture
def key(whole):
    return whole.environment["WRITE_KEY"]


async def up(whole):
    await asyncio.to_thread(whole.up)


async def answer_of(whole, key, call):
    """Return (status, seconds) of one call."""
    begun = time.monotonic()
    async with httpx2.AsyncClient(auth=(key, ""), timeout=20, trust_env=False) as client:
        answer = await client.post(f"{whole.ingest_url}/v1/track", json=call)
    return answer, time.monotonic() - begun


async def answers(address):
    """Wait until a service answers at all, whatever it answers."""
    async with httpx2.AsyncClient(trust_env=False) as client:

        async def answered():
            with contextlib.suppress(httpx2.TransportError):
                return await client.get(address)

        await wait_until(answered, what=f"an answer of {address}")


def log_of(whole, name):
    return ManagedProcess(whole.stack.home, name).log_path.read_text()


def kill(whole, name):
    os.kill(ManagedProcess(whole.stack.home, name).pid, signal.SIGKILL)


async def test_kafka_away_is_503_within_five_seconds_and_loses_nothing(whole, key):
    await whole.send(key, whole.calls(200))
    kill(whole, "kafka")
    answer, seconds = await answer_of(
        whole, key, {"event": "x", "userId": "u", "messageId": "never-counted"}
    )
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert seconds < 5.5
    sending = asyncio.create_task(whole.send(key, whole.calls(200)))
    await up(whole)
    await sending
    await whole.wait_until_idle()
    stored = await whole.fetch(
        "SELECT count(*) FROM scoring.touchpoints WHERE message_id = 'never-counted'"
    )
    assert stored[0][0] <= 1, "a 503 may have been stored, but only once"
    whole.sent += stored[0][0]
    await whole.check()


async def test_postgres_away_leaves_the_door_open(whole, key):
    kill(whole, "postgres")
    assert await whole.send(key, whole.calls(300)) == 300
    await up(whole)
    await whole.check()


async def test_both_away_at_once(whole, key):
    kill(whole, "postgres")
    kill(whole, "kafka")
    sending = asyncio.create_task(whole.send(key, whole.calls(100)))
    await up(whole)
    await sending
    await whole.check()


async def test_services_started_while_both_are_away_wait_for_them(whole, key):
    names = ("ingest", "scoring", "orchestrator")
    for name in names:
        ManagedProcess(whole.stack.home, name).stop()
    kill(whole, "postgres")
    kill(whole, "kafka")
    before = {name: len(log_of(whole, name)) for name in names}
    for name in names:
        ServiceProcess(whole.stack.home, name, whole.environment).start()
    for name in names:
        await wait_until(
            lambda name=name: log_of(whole, name)[before[name] :].count("refused") > 1,
            what=f"two attempts of {name} to reach a server",
        )
    await answers(f"{whole.ingest_url}/livez")
    assert all(ManagedProcess(whole.stack.home, name).pid for name in names), "a service gave up"
    answer, seconds = await answer_of(whole, key, {"event": "x", "userId": "u"})
    assert (answer.status_code, seconds < 5.5) == (503, True)
    assert "PostgreSQL" in answer.json()["message"]
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{whole.ingest_url}/livez")).status_code == 200
        ready = await client.get(f"{whole.ingest_url}/readyz")
    assert ready.status_code == 503
    assert all(ready.json()["checks"].values())
    sending = asyncio.create_task(whole.send(key, whole.calls(50)))
    await up(whole)
    await sending
    await whole.check()
