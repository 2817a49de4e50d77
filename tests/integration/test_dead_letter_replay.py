"""Dead letters are replayed after a fix or a repair; each counts once."""

import msgspec
import pytest

from libs.common.errors import ConfigurationError
from libs.common.kafka.dead_letters import build_dead_letter
from libs.common.kafka.record import Record
from libs.common.kafka.topic_reader import read_all
from services.ingest.adapters import WebhookRequest
from services.ingest.handlers.sources import SourceChanges
from tests.integration.ingest_parts import NOW


async def test_replay_after_fix_adds_each_once(ingest_parts):
    created = await ingest_parts.source_service.create(
        "default", "shop", SourceChanges(user_hash=True)
    )
    calls = [
        {"type": "track", "event": "x", "userId": "u"},
        {"type": "track", "event": "y", "userId": "v", "messageId": "m"},
    ]

    batch = {"sentAt": "2026-05-28T20:26:41Z", "context": {"library": {"name": "go"}}}

    assert (
        await ingest_parts.send(
            created.write_key, [{**c, "timestamp": "2026-05-28T20:26:39Z"} for c in calls], **batch
        )
        == 0
    )

    listed = await ingest_parts.list_dead_letters(reason="bad_user_hash")
    assert {dead_letter.where for dead_letter in listed} == {"default/shop"}
    assert [dead_letter.refused_at for dead_letter in listed] == [NOW, NOW]

    numbers = [dead_letter.number for dead_letter in listed]
    early_replay = await ingest_parts.dead_letters.replay(numbers, "ada", "too early")
    assert early_replay.replayed == []
    assert all("bad_user_hash" in reason for reason in early_replay.refused.values())

    await ingest_parts.source_service.update("default", "shop", SourceChanges(user_hash=False))
    for _ in range(2):
        assert (await ingest_parts.dead_letters.replay(numbers, "ada", "fixed")).replayed == numbers

    touchpoints = await ingest_parts.touchpoints()
    assert len(touchpoints) == 4
    assert len({(t.source, t.message_id) for t in touchpoints}) == 2, (
        "the second replay has other ids"
    )
    assert {t.occurred_at for t in touchpoints} == {NOW - 2_000_000}, (
        "the replay does not use the first receipt instant"
    )
    assert all(t.context["library"] == {"name": "go"} for t in touchpoints)
    assert await ingest_parts.list_dead_letters() == []

    marked_page = await ingest_parts.dead_letters.list_page("ingest", lambda _: True, marked=True)

    assert {dead_letter.mark for dead_letter in marked_page.letters} == {"replayed"}


async def test_dead_letter_of_scoring_is_replayed_unchanged(ingest_parts):
    original = Record(
        "touchpoints", 2, 5, b"k", b'{"odd":1}', [("ce_type", b"perigee.touchpoint.v1")], 0
    )

    assert await ingest_parts.publisher.publish(
        [build_dead_letter("scoring", original, ValueError("x"))], 10
    ) == [None]

    (dead_letter,) = (await ingest_parts.dead_letters.list_page("scoring", lambda _: True)).letters
    assert dead_letter.where == "touchpoints/2/5"
    assert (await ingest_parts.dead_letters.replay([dead_letter.number], "ada", "")).replayed == [
        dead_letter.number
    ]

    (replayed,) = await read_all(ingest_parts.kafka, "touchpoints")

    assert (replayed.key, replayed.value, list(replayed.headers)) == (
        b"k",
        b'{"odd":1}',
        [("ce_type", b"perigee.touchpoint.v1")],
    )


async def test_repaired_dead_letter_counts_once(ingest_parts):
    created = await ingest_parts.source_service.create("default", "shop", SourceChanges())
    broken = {
        "type": "track",
        "event": "x",
        "timestamp": "yesterday",
        "properties": {"lines": [{"sku": "a"}]},
    }
    await ingest_parts.send(created.write_key, [broken])
    (dead_letter,) = await ingest_parts.list_dead_letters(reason="no_ids")

    half_repaired = await ingest_parts.dead_letters.replay(
        [dead_letter.number], "ada", "", {"userId": 42}
    )

    assert "bad_time" in half_repaired.refused[dead_letter.number]

    wrong_path = await ingest_parts.dead_letters.replay(
        [dead_letter.number], "ada", "", {"properties.lines[3].sku": "b"}
    )
    assert "no_place" in wrong_path.refused[dead_letter.number]

    for path in ("", "messageId"):
        with pytest.raises(ConfigurationError, match="part of the call"):
            await ingest_parts.dead_letters.replay([dead_letter.number], "ada", "", {path: "x"})
    repairs = {
        "userId": 42,
        "timestamp": "2026-05-01T10:00:00Z",
        "properties.lines[0].sku": "b",
        "context.locale": "fr",
    }
    for _ in range(2):
        assert (
            await ingest_parts.dead_letters.replay([dead_letter.number], "ada", "", repairs)
        ).replayed == [dead_letter.number]

    touchpoints = await ingest_parts.touchpoints()

    assert len({t.message_id for t in touchpoints}) == 1
    assert (touchpoints[0].user_id, touchpoints[0].locale, touchpoints[0].properties) == (
        "42",
        "fr",
        {"lines": [{"sku": "b"}]},
    )


async def test_unmapped_webhook_is_replayed_after_mapping_fix(ingest_parts):
    mapping = {
        "each": "data.items",
        "calls": [{"call": {"type": "track", "event": "x", "userId": {"path": "who"}}}],
    }
    settings = SourceChanges(trust="server", adapter="webhook", adapter_settings=mapping)
    created = await ingest_parts.source_service.create("default", "erp", settings)
    await ingest_parts.sources.refresh()

    content = msgspec.json.encode({"data": {"itemz": [{"who": "a"}, {"who": "b"}]}})

    assert (
        await ingest_parts.ingest_service.ingest_webhook(
            WebhookRequest("http://ingest/v1/hook", {}, content),
            ingest_parts.ingest_service.authenticate(created.write_key),
        )
        == 0
    )

    (dead_letter,) = await ingest_parts.list_dead_letters(reason="bad_shape")
    assert dead_letter.value == content.decode()
    assert (
        "bad_shape"
        in (await ingest_parts.dead_letters.replay([dead_letter.number], "ada", "")).refused[
            dead_letter.number
        ]
    )

    await ingest_parts.source_service.update(
        "default", "erp", SourceChanges(adapter_settings={**mapping, "each": "data.itemz"})
    )
    for _ in range(2):
        assert (
            await ingest_parts.dead_letters.replay([dead_letter.number], "ada", "")
        ).replayed == [dead_letter.number]

    touchpoints = await ingest_parts.touchpoints()

    assert (len(touchpoints), len({t.message_id for t in touchpoints})) == (4, 2), (
        "the second replay has other ids"
    )
    assert {t.user_id for t in touchpoints} == {"a", "b"}
