"""`/admin/v1/live` of a running door: server-sent events, and who has gone is let go."""

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
    with run_ingest_only(tmp_path, perigee_topics, database) as found:
        yield found


async def test_what_comes_is_streamed_and_who_has_gone_is_let_go(ingest):
    key = await ingest.create_source("shop")
    door = psutil.Process(ingest.pid("ingest"))
    headers = {"authorization": f"Bearer {ingest.environment['PERIGEE_ADMIN_KEY']}"}
    async with httpx2.AsyncClient(
        base_url=ingest.ingest_url, trust_env=False, timeout=30
    ) as client:
        before = len(door.net_connections())
        async with client.stream("GET", "/admin/v1/live", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            sending = asyncio.create_task(sent(client, key))
            found = []
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: ")))
                if {one["outcome"] for one in found} == {"accepted", "refused"}:
                    break
            sending.cancel()
        assert {one["source"] for one in found} == {"shop"}
        assert all(
            one["reason"].startswith("no_ids") for one in found if one["outcome"] == "refused"
        )
        await wait_until(
            lambda: len(door.net_connections()) <= before + 1,
            what="the end of the connections of its consumer",
        )


async def sent(client, key):
    """Send until the stream has begun, and longer: it shows what comes from then on."""
    while True:
        batch = [{"type": "track", "event": "x", "userId": "u"}, {"type": "track", "event": "x"}]
        await client.post("/v1/batch", auth=(key, ""), json={"batch": batch})
        await last(0.2)


async def test_silence_is_told(monkeypatch):
    monkeypatch.setattr(dead_letters, "HEARTBEAT_SECONDS", 0.01)
    ended, silent = [], asyncio.Event()

    async def seen():
        try:
            await silent.wait()
            yield LiveEvent(1, "shop", "accepted")
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    stream = dead_letters._server_sent_events(seen())
    found = [await anext(stream) for _ in range(3)]
    assert set(found) == {b":\n\n"}
    silent.set()
    while (one := await anext(stream)) == b":\n\n":
        pass
    assert b'"source":"shop"' in one
    await anext(stream)
    await stream.aclose()
    await wait_until(lambda: ended == [True], what="the end of what is followed")
