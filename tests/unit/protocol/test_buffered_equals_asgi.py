"""Buffered requests get the same responses as those through ASGI."""

import asyncio
import gzip
import json
import logging

import pytest

from libs.common.errors import Unavailable
from services.ingest.api.byte_budget import ByteBudget
from services.ingest.protocol import buffered
from tests.support.ingest_server import (
    IngestServer,
    batch,
    call,
    parse_response,
    request,
    split_bytes,
)
from tests.support.waiting import wait_until

CASES = {
    "a call": request(call()),
    "a batch with a wrong one": request(batch(), "/v1/batch"),
    "gzip": request(gzip.compress(batch(), mtime=0), "/v1/batch", content_encoding="gzip"),
    "half a gzip": request(
        gzip.compress(batch(), mtime=0)[:30], "/v1/batch", content_encoding="gzip"
    ),
    "a page": request(call(), origin="https://shop.test"),
    "a page of others": request(call(), key="shy", origin="https://evil.test"),
    "a trace": request(
        call(), traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    ),
    "an unknown key": request(call(), key="other", origin="https://shop.test"),
    "no key": request(call(), key=None),
    "a key in the body": request(call(writeKey="good"), key=None),
    "no JSON": request(b"{"),
    "no object": request(b"3"),
    "no body": request(b""),
    "no event": request(b'{"userId":"u"}'),
    "one that is too large": request(call(long="x" * 300_000)),
    "pieces without a length": request(
        split_bytes(call()), sized=False, transfer_encoding="chunked"
    ),
    "HTTP/1.0": request(call(), version="1.0"),
    "somebody who waits to be told": request(call(), expect="100-continue"),
    "one who would like another protocol": request(
        call(), close=False, upgrade="websocket", connection="upgrade, close"
    ),
    "a query": request(call(), "/v1/track?writeKey=good", key=None),
    "slashes": request(call(), "//v1//track/"),
    "a hook of none": request(call(), "/v1/hook"),
    "a hook without its signature": request(call(), "/v1/hook", key="signed"),
    "a call with a hook's key": request(call(), key="signed"),
    "what a library says of itself": request(b"{}", "/v1/m"),
    "a question": request(b"", method="GET"),
    "a preflight": request(b"", method="OPTIONS", origin="https://shop.test"),
    "the tracker": request(b"", "/perigee.js", method="GET"),
    "no path of ours": request(call(), "/v1/nothing"),
    "health": request(b"", "/livez", method="GET"),
    "two lengths": request(call(), content_length="3"),
    "a length with noughts": request(call(), sized=False, content_length="0" * 20 + "5"),
    "a length of noughts": request(call(), sized=False, content_length="0" * 5_000),
    "no HTTP": b"\x16\x03\x01\x02\r\n\r\n",
}


@pytest.mark.parametrize("name", CASES)
async def test_both_paths_respond_alike(ways, name):
    found, expected = [parse_response(await one.exchange(CASES[name])) for one in ways]
    assert found == expected
    assert found[0].startswith(b"HTTP/1.1 ")
    kept, known = [[m for m in one.publisher.kept if m.topic == "touchpoints"] for one in ways]

    assert [(json.loads(m.value), m.headers) for m in kept] == [
        (json.loads(m.value), m.headers) for m in known
    ]
    assert len(ways[0].publisher.kept) == len(ways[1].publisher.kept)


@pytest.mark.parametrize("asked", [request(call()), request(batch(), "/v1/batch", key="slow")])
async def test_both_paths_refuse_alike(ways, asked):
    for one in ways:
        one.publisher.fault = Unavailable("Kafka is away")

    found, expected = [parse_response(await one.exchange(asked)) for one in ways]

    assert found == expected
    assert found[0] in (b"HTTP/1.1 503 Service Unavailable", b"HTTP/1.1 429 Too Many Requests")


async def test_plain_post_is_buffered(door, monkeypatch):
    taken = []
    monkeypatch.setattr(
        buffered.BufferedExchange, "__init__", lambda *a, **k: taken.append(1) or BEGIN(*a, **k)
    )

    await door.exchange(request(call()))

    assert taken == [1]


BEGIN = buffered.BufferedExchange.__init__


async def test_request_may_arrive_in_pieces(door):
    whole = request(call())

    answer = await door.exchange(whole[:7], whole[7:90], whole[90:-20], whole[-20:-1], whole[-1:])

    assert parse_response(answer)[0] == b"HTTP/1.1 200 OK"
    assert len(door.publisher.kept) == 1


@pytest.mark.parametrize("first", ["a call", "a query", "pieces without a length"])
@pytest.mark.parametrize("second", ["a call", "no JSON", "a query", "the tracker"])
async def test_pipelined_requests_are_answered_in_order(door, first, second):
    door.publisher.gate.clear()
    before = CASES[first].replace(b"connection: close\r\n", b"")
    asked = asyncio.create_task(door.exchange(before + CASES[second]))
    await wait_until(lambda: door.publisher.waiting)
    door.publisher.gate.set()

    answer = await asked

    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'{"success":true}HTTP/1.1 ' in answer


async def test_many_calls_on_one_connection(door):
    before = door.web.server_state.total_requests
    reader, writer = await door.open()
    for number in range(200):
        writer.write(request(call(messageId=str(number)), close=False))
        assert (await reader.readuntil(b"true}")).startswith(b"HTTP/1.1 200 OK\r\n")

    writer.close()

    assert len(door.publisher.kept) == 200
    assert door.web.server_state.total_requests == before + 200


async def test_disconnected_client_leaves_nothing_behind(door):
    door.publisher.gate.clear()
    _, writer = await door.open()
    writer.write(request(call()))
    await wait_until(lambda: door.publisher.waiting)
    writer.transport.abort()
    await wait_until(lambda: not door.web.server_state.connections)
    door.publisher.gate.set()

    await wait_until(lambda: door.publisher.kept and not door.web.server_state.tasks)

    assert (
        len(door.publisher.kept),
        door.web.server_state.tasks,
        door.web.server_state.connections,
    ) == (
        1,
        set(),
        set(),
    )


async def test_shutdown_waits_for_responses():
    async with IngestServer() as door:
        door.publisher.gate.clear()
        asked = asyncio.create_task(door.exchange(request(call(), close=False)))
        await wait_until(lambda: door.publisher.waiting)
        door.web.should_exit = True
        await wait_until(lambda: not door.web.servers[0].is_serving())
        door.publisher.gate.set()
        assert parse_response(await asked)[0] == b"HTTP/1.1 200 OK"


async def test_unexpected_error_is_500_without_details(door, caplog):
    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        answer = await door.exchange(request(call(event="broken"), close=False))

    assert parse_response(answer)[0] == b"HTTP/1.1 500 Internal Server Error"
    assert b"connection: close" in answer
    assert b"ZeroDivisionError" not in answer
    assert "ZeroDivisionError" in caplog.text


async def test_concurrency_limit_is_503(door, monkeypatch):
    monkeypatch.setattr(door.web.config, "limit_concurrency", 1)

    assert (
        parse_response(await door.exchange(request(call())))[0]
        == b"HTTP/1.1 503 Service Unavailable"
    )


async def test_spent_byte_budget_is_503_and_is_released(door, monkeypatch):
    monkeypatch.setattr(door.api, "_budget", ByteBudget(100))
    long = request(call(properties={"x": "y" * 100}))
    assert parse_response(await door.exchange(long))[0] == b"HTTP/1.1 503 Service Unavailable"

    for _ in range(5):
        assert parse_response(await door.exchange(request(call())))[0] == b"HTTP/1.1 200 OK"


async def test_body_is_reserved_before_it_arrives(door, monkeypatch):
    room = ByteBudget(1_000)
    monkeypatch.setattr(door.api, "_budget", room)
    whole = request(call(properties={"x": "y" * 700}))
    _, writer = await door.open()
    writer.write(whole[:-1])
    await wait_until(lambda: room._available < 1_000)
    assert parse_response(await door.exchange(whole))[0] == b"HTTP/1.1 503 Service Unavailable"
    writer.transport.abort()
    await wait_until(lambda: room._available == 1_000)

    assert parse_response(await door.exchange(whole))[0] == b"HTTP/1.1 200 OK"


async def test_unknown_key_is_refused_before_its_body(door):
    assert (
        parse_response(await door.exchange(request(call(), key="other")[:-1]))[0]
        == b"HTTP/1.1 401 Unauthorized"
    )


async def test_shutdown_does_not_wait_for_incomplete_requests():
    async with IngestServer() as door:
        asked = asyncio.create_task(door.exchange(request(call())[:-1]))
        await wait_until(
            lambda: any(c._headers_complete for c in door.web.server_state.connections)
        )
        door.web.should_exit = True
        assert await asyncio.wait_for(asked, 8) == b""
