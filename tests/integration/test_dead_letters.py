"""Dead letters are listed, filtered, dropped and streamed, without personal data."""

import asyncio
import contextlib
import json

import httpx2
import pytest

from libs.common.errors import ConfigurationError, NotFound
from libs.common.http.app_factory import build_app
from services.ingest.api import dead_letters, sources
from services.ingest.domain.dead_letter import parse_dead_letter, parse_number
from services.ingest.handlers.live_events import stream_live_events
from services.ingest.handlers.sources import SourceChanges
from tests.integration.ingest_parts import NOW
from tests.support.fixed_keys import ADMIN, with_authentication
from tests.support.waiting import wait_until


async def test_dead_letters_are_filtered_and_dropped(ingest_parts):
    created = await ingest_parts.source_service.create("default", "shop", SourceChanges())
    await ingest_parts.send(
        created.write_key, [{"type": "track"}, {"type": "dance", "userId": "u"}, 7]
    )

    assert sorted(dead_letter.reason for dead_letter in await ingest_parts.list_dead_letters()) == [
        "no_ids",
        "not_an_object",
        "unknown_type",
    ]

    (unknown_type,) = await ingest_parts.list_dead_letters(text="dance", where="shop", since=NOW)

    assert await ingest_parts.list_dead_letters(since=NOW + 1) == []
    assert await ingest_parts.dead_letters.drop([unknown_type.number], "ada", "a joke") == 1
    assert await ingest_parts.list_dead_letters(text="dance") == []
    assert (await ingest_parts.dead_letters.get(unknown_type.number)).mark == "dropped"
    with pytest.raises(NotFound, match="has no such record"):
        await ingest_parts.dead_letters.get("touchpoints-dlq/0/999")
    with pytest.raises(ConfigurationError, match="no dead letter's number"):
        await ingest_parts.dead_letters.replay(["nonsense"], "ada", "")
    with pytest.raises(NotFound, match="no service"):
        await ingest_parts.dead_letters.list_page("mailer", lambda _: True)


async def test_live_stream_shows_outcomes_and_reasons(ingest_parts):
    live_key = (
        await ingest_parts.source_service.create("default", "shop", SourceChanges())
    ).write_key
    test_key = (
        await ingest_parts.source_service.create("default", "try", SourceChanges(mode="test"))
    ).write_key
    events = []

    async def watch():
        async for event in stream_live_events(ingest_parts.kafka):
            events.append(event)  # noqa: PERF401

    watching = asyncio.create_task(watch())
    probe = (
        await ingest_parts.source_service.create("default", "probe", SourceChanges())
    ).write_key

    async def started():
        await ingest_parts.send(probe, [{"type": "page", "anonymousId": "p", "name": "Probe"}])
        return events

    await wait_until(started, what="the begin of the stream")
    bot = {"userAgent": "Googlebot/2.1"}
    page = {"type": "page", "anonymousId": "a", "name": "Home"}
    await ingest_parts.send(live_key, [page, {**page, "context": bot}, {"type": "page"}])
    await ingest_parts.send(test_key, [page])

    def shown():
        return [event for event in events if event.source != "probe"]

    await wait_until(lambda: len(shown()) == 4, what="four messages on the stream")
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert sorted((event.source, event.outcome) for event in shown()) == [
        ("shop", "accepted"), ("shop", "bot"), ("shop", "refused"), ("try", "test"),
    ]  # fmt: skip
    (refused,) = [event for event in shown() if event.outcome == "refused"]
    assert "no_ids" in refused.reason
    assert refused.number.startswith("touchpoints-dlq/")


async def test_admin_routes_list_replay_and_drop(ingest_parts):
    created = await ingest_parts.source_service.create("default", "shop", SourceChanges())
    await ingest_parts.send(created.write_key, [{"type": "track"}])

    app = with_authentication(
        build_app(
            "Perigee ingest_parts",
            admin_routers=[
                sources.router(ingest_parts.source_service),
                dead_letters.router(ingest_parts.dead_letters, ingest_parts.kafka),
            ],
        )
    )

    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://ingest"
    ) as client:
        assert (await client.get("/admin/v1/dlq")).status_code == 401
        client.headers["authorization"] = f"Bearer {ADMIN}"
        page = (await client.get("/admin/v1/dlq", params={"reason": "no_ids"})).json()
        assert page["all"] == 1
        number = page["letters"][0]["number"]
        assert (await client.get(f"/admin/v1/dlq/{number}")).json()["reason"] == "no_ids"
        body = {"numbers": [number], "author": "ada"}
        outcome = (await client.post("/admin/v1/dlq/replay", json=body)).json()
        assert (outcome["replayed"], list(outcome["refused"])) == ([], [number])
        assert (await client.post("/admin/v1/dlq/drop", json=body)).json() == {"dropped": 1}
        assert (await client.get("/admin/v1/dlq")).json()["all"] == 0
        assert (await client.get("/admin/v1/dlq/touchpoints-dlq/0/77")).status_code == 404
        assert (await client.post("/admin/v1/dlq/drop", json={"numbers": []})).status_code == 422


@pytest.mark.parametrize(
    "number",
    [
        "",
        "a/b/c",
        "touchpoints/0/0",
        "touchpoints-dlq/0",
        "touchpoints-dlq/-1/0",
        "touchpoints-dlq/²/1",
    ],
)
def test_invalid_dead_letter_number_is_refused(number):
    with pytest.raises(ConfigurationError):
        parse_number(number)


def test_dead_letter_without_headers_has_unknown_reason():
    dead_letter = parse_dead_letter(("touchpoints-dlq", 0, 1), b"\xff", None, [], 7, "")

    assert (dead_letter.reason, dead_letter.where, dead_letter.refused_at, dead_letter.value) == (
        "unknown",
        "?/?/?",
        7,
        "",
    )


async def test_dead_letter_pages_contain_each_once(ingest_parts):
    created = await ingest_parts.source_service.create("default", "shop", SourceChanges())
    await ingest_parts.send(created.write_key, [{"type": "track", "n": "x" * 2_000}] * 25)
    listed, after = [], ""

    while (
        page := await ingest_parts.dead_letters.list_page(
            "ingest", lambda _: True, limit=10, after=after
        )
    ).letters:
        assert page.all == 25 - len(listed)
        assert all(len(dead_letter.value) == 1_000 for dead_letter in page.letters), (
            "a listed value is not shortened"
        )
        listed += page.letters
        after = f"{listed[-1].refused_at}:{listed[-1].number}"

    assert len({dead_letter.number for dead_letter in listed}) == 25
    assert len((await ingest_parts.dead_letters.get(listed[0].number)).value) > 2_000
    with pytest.raises(ConfigurationError, match="no end of a page"):
        await ingest_parts.dead_letters.list_page("ingest", lambda _: True, after="nonsense")


async def test_dead_letter_contains_no_key_token_or_address(ingest_parts):
    created = await ingest_parts.source_service.create("default", "shop", SourceChanges())
    context = {
        "ip": "203.0.113.77",
        "linkToken": "TOK",
        "page": {"url": "https://x.test/?a=1&pgt=TOK"},
    }
    await ingest_parts.send(
        created.write_key,
        [{"type": "dance", "userId": "u", "writeKey": created.write_key, "context": context}],
    )
    (dead_letter,) = await ingest_parts.list_dead_letters()

    stored = json.loads(dead_letter.value)

    assert stored["context"] == {
        "ip": None,
        "linkToken": None,
        "page": {"url": "https://x.test/?a=1"},
    }
    assert stored["writeKey"] is None
