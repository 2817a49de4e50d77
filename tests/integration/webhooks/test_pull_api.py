"""The same messages, pulled by cursor."""

import asyncio
import json

import pytest

from libs.common.errors import ConfigurationError
from libs.common.messages.message_filter import MessageFilter
from services.scoring.handlers.published_messages import PublishedMessageService
from tests.integration.webhooks.harness import SHARDS, Bench, in_order


async def test_the_same_is_there_to_be_pulled_by_cursor(bench, database):
    changes = PublishedMessageService(bench.sessions[0], SHARDS)
    assert (await changes.list_after("default", "", 10, MessageFilter())).items == []
    end = (await changes.list_after("default", "now", 10, MessageFilter())).cursor
    sent = []
    for _ in range(5):
        sent += await bench.publish("a", "b", "c")
    await bench.publish("z", workspace="other")
    found, cursor, more = [], "", True
    while more:
        page = await changes.list_after("default", cursor, 4, MessageFilter())
        found += [json.loads(bytes(item.data)) for item in page.items]
        cursor, more = page.cursor, page.more
    assert sorted(one["id"] for one in found) == sorted(sent)
    assert in_order(found) == {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 5], "c": [1, 2, 3, 4, 5]}
    assert (await changes.list_after("default", cursor, 10, MessageFilter())).items == []
    later = await bench.publish("b")
    assert [
        item.id for item in (await changes.list_after("default", cursor, 10, MessageFilter())).items
    ] == later
    assert len((await changes.list_after("default", end, 100, MessageFilter())).items) == 16
    assert (
        await changes.list_after("default", "", 10, MessageFilter(stages=("nowhere",)))
    ).items == []
    for wrong in ("x", "%%%", "gA==x", cursor[:-2] + "!!", "gf8F"):
        with pytest.raises(ConfigurationError, match="cursor is invalid"):
            await changes.list_after("default", wrong, 10, MessageFilter())


async def test_a_cursor_misses_nothing_while_relays_write(bench):
    """Positions of a shard become visible in their order, whoever commits last."""
    changes = PublishedMessageService(bench.sessions[0], SHARDS)
    found, cursor, done = [], "", asyncio.Event()

    async def pull():
        nonlocal cursor
        last = False
        while not last:
            ending = done.is_set()
            page = await changes.list_after("default", cursor, 7, MessageFilter())
            found.extend(item.id for item in page.items)
            cursor, last = page.cursor, ending and not page.items
            await asyncio.sleep(0)

    others = Bench(bench.database)
    pulling = asyncio.create_task(pull())
    sent = []
    for _ in range(40):
        sent += await others.publish(*"abcdef")
    done.set()
    await pulling
    assert sorted(found) == sorted(sent)
    await others.close()
