"""Published messages pulled by cursor."""

import asyncio
import json

import pytest

from libs.common.errors import ConfigurationError
from libs.common.messages.message_filter import MessageFilter
from services.scoring.handlers.published_messages import PublishedMessageService
from tests.integration.webhooks.harness import SHARDS, DeliveryHarness, sequences_by_contact


async def test_cursor_pulls_every_published_message(harness, database):
    changes = PublishedMessageService(harness.sessions[0], SHARDS)

    assert (await changes.list_after("default", "", 10, MessageFilter())).items == []

    end = (await changes.list_after("default", "now", 10, MessageFilter())).cursor
    sent = []
    for _ in range(5):
        sent += await harness.publish("a", "b", "c")
    await harness.publish("z", workspace="other")
    messages, cursor, more = [], "", True
    while more:
        page = await changes.list_after("default", cursor, 4, MessageFilter())
        messages += [json.loads(bytes(item.data)) for item in page.items]
        cursor, more = page.cursor, page.more
    assert sorted(message["id"] for message in messages) == sorted(sent)
    assert sequences_by_contact(messages) == {
        "a": [1, 2, 3, 4, 5],
        "b": [1, 2, 3, 4, 5],
        "c": [1, 2, 3, 4, 5],
    }
    assert (await changes.list_after("default", cursor, 10, MessageFilter())).items == []

    later = await harness.publish("b")

    assert [
        item.id for item in (await changes.list_after("default", cursor, 10, MessageFilter())).items
    ] == later
    assert len((await changes.list_after("default", end, 100, MessageFilter())).items) == 16
    assert (
        await changes.list_after("default", "", 10, MessageFilter(stages=("nowhere",)))
    ).items == []

    for invalid_cursor in ("x", "%%%", "gA==x", cursor[:-2] + "!!", "gf8F"):
        with pytest.raises(ConfigurationError, match="cursor is invalid"):
            await changes.list_after("default", invalid_cursor, 10, MessageFilter())


async def test_cursor_misses_nothing_during_writes(harness):
    """Positions of a shard become visible in order, whatever the order of the commits."""
    changes = PublishedMessageService(harness.sessions[0], SHARDS)
    ids, cursor, done = [], "", asyncio.Event()

    async def pull():
        nonlocal cursor
        last = False
        while not last:
            ending = done.is_set()
            page = await changes.list_after("default", cursor, 7, MessageFilter())
            ids.extend(item.id for item in page.items)
            cursor, last = page.cursor, ending and not page.items
            await asyncio.sleep(0)

    writer = DeliveryHarness(harness.database)
    pulling = asyncio.create_task(pull())
    sent = []
    for _ in range(40):
        sent += await writer.publish(*"abcdef")
    done.set()
    await pulling
    assert sorted(ids) == sorted(sent)
    await writer.close()
