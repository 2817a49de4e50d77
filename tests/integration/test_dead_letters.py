"""What was refused is looked at, tried again after a fix, and counts once however often it is tried."""

import asyncio
import contextlib
import json

import httpx2
import msgspec
import pytest

from cli.home import PROJECT
from libs.common.clock import FixedClock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError, NotFound
from libs.common.http.app_factory import build_app
from libs.common.kafka.admin import apply_topics
from libs.common.kafka.dead_letters import build_dead_letter
from libs.common.kafka.publisher import Publisher
from libs.common.kafka.record import Record
from libs.common.kafka.topic_reader import read_all
from libs.common.messages import Touchpoint
from services.ingest.adapters import WebhookRequest
from services.ingest.api import dead_letters, sources
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.dead_letter import parse_dead_letter, parse_number
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.handlers.dead_letters import DeadLetterService
from services.ingest.handlers.ingestion import IngestService, TrackingRequest
from services.ingest.handlers.live_events import stream_live_events
from services.ingest.handlers.sources import SourceChanges, SourceService
from services.ingest.repository.sources import SourceCache
from tests.support.fixed_keys import ADMIN, with_authentication
from tests.support.instance import PARTITIONS
from tests.support.waiting import wait_until

NOW = 1_780_000_000_000_000
SHIPPED = parse_channel_rules(
    (PROJECT / "services" / "ingest" / "channels.yaml").read_text(), "channels.yaml"
)


class Ingest:
    """Ingest's parts on real servers, without HTTP."""

    def __init__(self, servers, database):
        self.kafka = servers.kafka
        self.session = Session(database, "test")
        self.publisher = Publisher(servers.kafka)
        self.sources = SourceCache(self.session)
        self.desk = SourceService(self.session)
        self.door = IngestService(
            self.sources, self.publisher, FixedClock(NOW), 10, NormalisationRules(SHIPPED)
        )
        self.letters = DeadLetterService(
            servers.kafka,
            self.session,
            self.publisher,
            FixedClock(NOW + 9),
            NormalisationRules(SHIPPED),
        )

    async def send(self, key, messages, **batch):
        await self.sources.refresh()
        return await self.door.ingest_request(
            TrackingRequest(
                msgspec.json.encode({"batch": messages, **batch}), self.door.authenticate(key), None
            )
        )

    async def touchpoints(self):
        found = await read_all(self.kafka, "touchpoints")
        return [msgspec.json.decode(r.value, type=Touchpoint) for r in found]

    async def every(self, **filters):
        return (await self.letters.list_page("ingest", lambda one: one.matches(**filters))).letters

    async def close(self):
        await self.publisher.close()
        await self.session.close()


@pytest.fixture
async def ingest(perigee_topics, database):
    await apply_topics(perigee_topics.kafka, PARTITIONS)
    found = Ingest(perigee_topics, database)
    yield found
    await found.close()


async def test_a_replay_after_a_fix_adds_each_once(ingest):
    made = await ingest.desk.create("default", "shop", SourceChanges(user_hash=True))
    calls = [
        {"type": "track", "event": "x", "userId": "u"},
        {"type": "track", "event": "y", "userId": "v", "messageId": "m"},
    ]
    sent = {"sentAt": "2026-05-28T20:26:41Z", "context": {"library": {"name": "go"}}}
    assert (
        await ingest.send(
            made.write_key, [{**c, "timestamp": "2026-05-28T20:26:39Z"} for c in calls], **sent
        )
        == 0
    )
    found = await ingest.every(reason="bad_user_hash")
    assert {one.where for one in found} == {"default/shop"}
    assert [one.refused_at for one in found] == [NOW, NOW]
    numbers = [one.number for one in found]
    again = await ingest.letters.replay(numbers, "ada", "too early")
    assert again.replayed == []
    assert all("bad_user_hash" in why for why in again.refused.values())
    await ingest.desk.update("default", "shop", SourceChanges(user_hash=False))
    for _ in range(2):
        assert (await ingest.letters.replay(numbers, "ada", "mended")).replayed == numbers
    touchpoints = await ingest.touchpoints()
    assert len(touchpoints) == 4
    assert len({(t.source, t.message_id) for t in touchpoints}) == 2, (
        "twice is once: the ids are the same"
    )
    assert {t.occurred_at for t in touchpoints} == {NOW - 2_000_000}, (
        "by the clock rule, as at the first time"
    )
    assert all(t.context["library"] == {"name": "go"} for t in touchpoints)
    assert await ingest.every() == []
    marked = await ingest.letters.list_page("ingest", lambda _: True, marked=True)
    assert {one.mark for one in marked.letters} == {"replayed"}


async def test_filters_and_dropping(ingest):
    made = await ingest.desk.create("default", "shop", SourceChanges())
    await ingest.send(made.write_key, [{"type": "track"}, {"type": "dance", "userId": "u"}, 7])
    assert sorted(one.reason for one in await ingest.every()) == [
        "no_ids",
        "not_an_object",
        "unknown_type",
    ]
    (dance,) = await ingest.every(text="dance", where="shop", since=NOW)
    assert await ingest.every(since=NOW + 1) == []
    assert await ingest.letters.drop([dance.number], "ada", "a joke") == 1
    assert await ingest.every(text="dance") == []
    assert (await ingest.letters.get(dance.number)).mark == "dropped"
    with pytest.raises(NotFound, match="has no such record"):
        await ingest.letters.get("touchpoints-dlq/0/999")
    with pytest.raises(ConfigurationError, match="no dead letter's number"):
        await ingest.letters.replay(["nonsense"], "ada", "")
    with pytest.raises(NotFound, match="no service"):
        await ingest.letters.list_page("mailer", lambda _: True)


async def test_another_services_letter_goes_back_to_its_topic_as_it_was(ingest):
    original = Record(
        "touchpoints", 2, 5, b"k", b'{"odd":1}', [("ce_type", b"perigee.touchpoint.v1")], 0
    )
    assert await ingest.publisher.publish(
        [build_dead_letter("scoring", original, ValueError("x"))], 10
    ) == [None]
    (one,) = (await ingest.letters.list_page("scoring", lambda _: True)).letters
    assert one.where == "touchpoints/2/5"
    assert (await ingest.letters.replay([one.number], "ada", "")).replayed == [one.number]
    (back,) = await read_all(ingest.kafka, "touchpoints")
    assert (back.key, back.value, list(back.headers)) == (
        b"k",
        b'{"odd":1}',
        [("ce_type", b"perigee.touchpoint.v1")],
    )


async def test_live_shows_what_comes_with_the_reason(ingest):
    live_key = (await ingest.desk.create("default", "shop", SourceChanges())).write_key
    test_key = (await ingest.desk.create("default", "try", SourceChanges(mode="test"))).write_key
    seen = []

    async def watch():
        async for one in stream_live_events(ingest.kafka):
            seen.append(one)  # noqa: PERF401

    watching = asyncio.create_task(watch())
    probe = (await ingest.desk.create("default", "probe", SourceChanges())).write_key

    async def begun():
        await ingest.send(probe, [{"type": "page", "anonymousId": "p", "name": "Probe"}])
        return seen

    await wait_until(begun, what="the begin of the stream")
    bot = {"userAgent": "Googlebot/2.1"}
    page = {"type": "page", "anonymousId": "a", "name": "Home"}
    await ingest.send(live_key, [page, {**page, "context": bot}, {"type": "page"}])
    await ingest.send(test_key, [page])

    def shown():
        return [one for one in seen if one.source != "probe"]

    await wait_until(lambda: len(shown()) == 4, what="four messages on the stream")
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert sorted((one.source, one.outcome) for one in shown()) == [
        ("shop", "accepted"), ("shop", "bot"), ("shop", "refused"), ("try", "test"),
    ]  # fmt: skip
    (refused,) = [one for one in shown() if one.outcome == "refused"]
    assert "no_ids" in refused.reason
    assert refused.number.startswith("touchpoints-dlq/")


async def test_the_admin_door_of_it(ingest):
    made = await ingest.desk.create("default", "shop", SourceChanges())
    await ingest.send(made.write_key, [{"type": "track"}])
    app = with_authentication(
        build_app(
            "Perigee ingest",
            admin_routers=[
                sources.router(ingest.desk),
                dead_letters.router(ingest.letters, ingest.kafka),
            ],
        )
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://door"
    ) as client:
        assert (await client.get("/admin/v1/dlq")).status_code == 401
        client.headers["authorization"] = f"Bearer {ADMIN}"
        found = (await client.get("/admin/v1/dlq", params={"reason": "no_ids"})).json()
        assert found["all"] == 1
        number = found["letters"][0]["number"]
        assert (await client.get(f"/admin/v1/dlq/{number}")).json()["reason"] == "no_ids"
        body = {"numbers": [number], "author": "ada"}
        answer = (await client.post("/admin/v1/dlq/replay", json=body)).json()
        assert (answer["replayed"], list(answer["refused"])) == ([], [number])
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
def test_what_is_no_number(number):
    with pytest.raises(ConfigurationError):
        parse_number(number)


def test_a_letter_of_headers_that_say_nothing():
    one = parse_dead_letter(("touchpoints-dlq", 0, 1), b"\xff", None, [], 7, "")
    assert (one.reason, one.where, one.refused_at, one.value) == ("unknown", "?/?/?", 7, "")


async def test_letters_come_page_by_page_and_none_twice(ingest):
    made = await ingest.desk.create("default", "shop", SourceChanges())
    await ingest.send(made.write_key, [{"type": "track", "n": "x" * 2_000}] * 25)
    found, after = [], ""
    while (
        page := await ingest.letters.list_page("ingest", lambda _: True, limit=10, after=after)
    ).letters:
        assert page.all == 25 - len(found)
        assert all(len(one.value) == 1_000 for one in page.letters), (
            "a list does not hold everything"
        )
        found += page.letters
        after = f"{found[-1].refused_at}:{found[-1].number}"
    assert len({one.number for one in found}) == 25
    assert len((await ingest.letters.get(found[0].number)).value) > 2_000
    with pytest.raises(ConfigurationError, match="no end of a page"):
        await ingest.letters.list_page("ingest", lambda _: True, after="nonsense")


async def test_a_letter_is_repaired_and_counts_once(ingest):
    made = await ingest.desk.create("default", "shop", SourceChanges())
    broken = {
        "type": "track",
        "event": "x",
        "timestamp": "yesterday",
        "properties": {"lines": [{"sku": "a"}]},
    }
    await ingest.send(made.write_key, [broken])
    (one,) = await ingest.every(reason="no_ids")
    half = await ingest.letters.replay([one.number], "ada", "", {"userId": 42})
    assert "bad_time" in half.refused[one.number]
    wrong = await ingest.letters.replay([one.number], "ada", "", {"properties.lines[3].sku": "b"})
    assert "no_place" in wrong.refused[one.number]
    for place in ("", "messageId"):
        with pytest.raises(ConfigurationError, match="part of the call"):
            await ingest.letters.replay([one.number], "ada", "", {place: "x"})
    repairs = {
        "userId": 42,
        "timestamp": "2026-05-01T10:00:00Z",
        "properties.lines[0].sku": "b",
        "context.locale": "fr",
    }
    for _ in range(2):
        assert (await ingest.letters.replay([one.number], "ada", "", repairs)).replayed == [
            one.number
        ]
    found = await ingest.touchpoints()
    assert len({t.message_id for t in found}) == 1
    assert (found[0].user_id, found[0].locale, found[0].properties) == (
        "42",
        "fr",
        {"lines": [{"sku": "b"}]},
    )


async def test_what_does_not_fit_its_mapping_is_kept_whole_until_that_is_mended(ingest):
    mapping = {
        "each": "data.items",
        "calls": [{"call": {"type": "track", "event": "x", "userId": {"path": "who"}}}],
    }
    given = SourceChanges(trust="server", adapter="webhook", adapter_settings=mapping)
    made = await ingest.desk.create("default", "erp", given)
    await ingest.sources.refresh()
    content = msgspec.json.encode({"data": {"itemz": [{"who": "a"}, {"who": "b"}]}})
    assert (
        await ingest.door.ingest_webhook(
            WebhookRequest("http://door/v1/hook", {}, content),
            ingest.door.authenticate(made.write_key),
        )
        == 0
    )
    (one,) = await ingest.every(reason="bad_shape")
    assert one.value == content.decode()
    assert "bad_shape" in (await ingest.letters.replay([one.number], "ada", "")).refused[one.number]
    await ingest.desk.update(
        "default", "erp", SourceChanges(adapter_settings={**mapping, "each": "data.itemz"})
    )
    for _ in range(2):
        assert (await ingest.letters.replay([one.number], "ada", "")).replayed == [one.number]
    found = await ingest.touchpoints()
    assert (len(found), len({t.message_id for t in found})) == (4, 2), "twice is once"
    assert {t.user_id for t in found} == {"a", "b"}


async def test_a_letter_holds_no_key_no_token_and_no_address(ingest):
    made = await ingest.desk.create("default", "shop", SourceChanges())
    context = {
        "ip": "203.0.113.77",
        "linkToken": "TOK",
        "page": {"url": "https://x.test/?a=1&pgt=TOK"},
    }
    await ingest.send(
        made.write_key,
        [{"type": "dance", "userId": "u", "writeKey": made.write_key, "context": context}],
    )
    (one,) = await ingest.every()
    kept = json.loads(one.value)
    assert kept["context"] == {
        "ip": None,
        "linkToken": None,
        "page": {"url": "https://x.test/?a=1"},
    }
    assert kept["writeKey"] is None
