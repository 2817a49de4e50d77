"""`/admin/v1/live` of a running ingest: server-sent events, and the end of a client's consumer."""

import asyncio
import json

import httpx2
import psutil
import pytest

from services.ingest.api import dead_letters
from services.ingest.handlers.live_events import LiveEvent
from tests.support.instance import run_ingest_only
from tests.support.waiting import last, wait_until


@pytest.fixture
def ingest(tmp_path, perigee_topics, database):
    with run_ingest_only(tmp_path, perigee_topics, database) as instance:
        yield instance


async def test_live_stream_ends_with_its_client(ingest):
    key = await ingest.create_source("shop")
    process = psutil.Process(ingest.pid("ingest"))

    headers = {"authorization": f"Bearer {ingest.environment['PERIGEE_ADMIN_KEY']}"}

    async with httpx2.AsyncClient(
        base_url=ingest.ingest_url, trust_env=False, timeout=30
    ) as client:
        connections_before = len(process.net_connections())
        async with client.stream("GET", "/admin/v1/live", headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            sending = asyncio.create_task(send_repeatedly(client, key))
            events = []
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
                if {event["outcome"] for event in events} == {"accepted", "refused"}:
                    break
            sending.cancel()
        assert {event["source"] for event in events} == {"shop"}
        assert all(
            event["reason"].startswith("no_ids")
            for event in events
            if event["outcome"] == "refused"
        )
        await wait_until(
            lambda: len(process.net_connections()) <= connections_before + 1,
            what="the end of the connections of its consumer",
        )


async def send_repeatedly(client, key):
    """Send until cancelled, since the stream shows only messages after its start."""
    while True:
        batch = [{"type": "track", "event": "x", "userId": "u"}, {"type": "track", "event": "x"}]
        await client.post("/v1/batch", auth=(key, ""), json={"batch": batch})
        await last(0.2)


async def test_silent_live_stream_sends_heartbeats(monkeypatch):
    monkeypatch.setattr(dead_letters, "HEARTBEAT_SECONDS", 0.01)
    ended, first_event = [], asyncio.Event()

    async def live_events():
        try:
            await first_event.wait()
            yield LiveEvent(1, "shop", "accepted")
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    stream = dead_letters._server_sent_events(live_events())
    heartbeats = [await anext(stream) for _ in range(3)]
    assert set(heartbeats) == {b":\n\n"}
    first_event.set()
    while (event := await anext(stream)) == b":\n\n":
        pass
    assert b'"source":"shop"' in event
    await anext(stream)
    await stream.aclose()
    await wait_until(lambda: ended == [True], what="the end of the followed stream")
