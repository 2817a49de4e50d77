"""The door's HTTP over real sockets: calls that come whole are answered as those that go by ASGI, and nobody waits for ever."""

import asyncio
import base64
import contextlib
import gzip
import itertools
import json
import logging
from functools import partial

import pytest

from libs.common.clock import FixedClock
from libs.common.errors import Unavailable
from libs.common.observability.health import Health, server
from services.ingest.api import ending, patience, prompt
from services.ingest.api.patience import PatientProtocol
from services.ingest.api.protocol import DoorProtocol
from services.ingest.api.room import Room
from services.ingest.api.tracking import TrackingApi
from services.ingest.domain.received import Rules
from services.ingest.domain.source import Source
from services.ingest.handlers.door import Door
from services.ingest.tracker.script import Tracker

IDS = itertools.count()
NOW = 1_780_000_000_000_000
SOURCES = {
    "good": Source("default", "web"),
    "slow": Source("default", "slow", per_second=1),
    "shy": Source("default", "shy", allowed_origins=("https://shop.test",)),
    "signed": Source("default", "signed", adapter="webhook", signing_secret="s"),
}


class Sources:
    loaded = True

    def find(self, write_key):
        return SOURCES.get(write_key)


class Publisher:
    """Keeps messages; waits as long as the gate is shut."""

    def __init__(self):
        self.kept, self.fault, self.gate = [], None, asyncio.Event()
        self.gate.set()

    async def publish(self, messages, seconds):
        if any(b"broken" in m.value for m in messages):
            raise ZeroDivisionError
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.kept += messages
        return [None] * len(messages)


class Running:
    """A door that listens; `asgi` leaves out the short way."""

    def __init__(self, *, asgi=False):
        self.publisher = Publisher()
        door = Door(Sources(), self.publisher, FixedClock(NOW), 1, Rules())
        self.api = TrackingApi(door, Tracker(), Health({}).app())
        self.web = server(self.api, "127.0.0.1", 0, PatientProtocol if asgi else partial(DoorProtocol, self.api))

    async def __aenter__(self):
        self.task = asyncio.create_task(self.web.serve())
        while not self.web.started:
            await asyncio.sleep(0.01)
        self.port = self.web.servers[0].sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.publisher.gate.set()
        self.web.should_exit = True
        await asyncio.wait_for(self.task, 10)

    async def open(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, *pieces):
        """Send the pieces one after the other and return what is answered until the connection ends."""
        reader, writer = await self.open()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        found = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return found


def request(
    body=b"{}", path="/v1/track", *, key="good", method="POST", version="1.1", close=True, sized=True, **headers
):
    lines = [f"{method} {path} HTTP/{version}", "host: door.test"]
    lines += [f"authorization: Basic {base64.b64encode(f'{key}:'.encode()).decode()}"] if key else []
    lines += [f"content-length: {len(body)}"] if sized else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += ["connection: close"] if close else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def call(**parts):
    return json.dumps({"event": "x", "userId": "u", "messageId": f"m-{next(IDS)}", **parts}).encode()


def parts_of(answer):
    """Return (status line, headers without the date, body)."""
    head, _, content = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return first, sorted(line.lower() for line in lines if not line.lower().startswith(b"date:")), content


def batch():
    return json.dumps(
        {"batch": [{"type": "track", **json.loads(call())}, 3], "sentAt": "2026-05-28T20:26:41Z"}
    ).encode()


def in_pieces(content):
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)


CASES = {
    "a call": request(call()),
    "a batch with a wrong one": request(batch(), "/v1/batch"),
    "gzip": request(gzip.compress(batch(), mtime=0), "/v1/batch", content_encoding="gzip"),
    "half a gzip": request(gzip.compress(batch(), mtime=0)[:30], "/v1/batch", content_encoding="gzip"),
    "a page": request(call(), origin="https://shop.test"),
    "a page of others": request(call(), key="shy", origin="https://evil.test"),
    "a trace": request(call(), traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    "an unknown key": request(call(), key="other", origin="https://shop.test"),
    "no key": request(call(), key=None),
    "a key in the body": request(call(writeKey="good"), key=None),
    "no JSON": request(b"{"),
    "no object": request(b"3"),
    "no body": request(b""),
    "no event": request(b'{"userId":"u"}'),
    "one that is too large": request(call(long="x" * 300_000)),
    "pieces without a length": request(in_pieces(call()), sized=False, transfer_encoding="chunked"),
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


@pytest.fixture(scope="module")
async def both():
    """Two doors that stay open: one with the short way, one without."""
    async with Running() as short, Running(asgi=True) as long:
        yield short, long


@pytest.fixture
async def ways(both):
    yield both
    for one in both:
        one.publisher.kept, one.publisher.fault = [], None


@pytest.fixture
def door(ways):
    return ways[0]


@pytest.mark.parametrize("name", CASES)
async def test_both_ways_answer_the_same(ways, name):
    found, expected = [parts_of(await one.ask(CASES[name])) for one in ways]
    assert found == expected
    assert found[0].startswith(b"HTTP/1.1 ")
    kept, known = [[m for m in one.publisher.kept if m.topic == "touchpoints"] for one in ways]
    assert [(m.value, m.headers) for m in kept] == [(m.value, m.headers) for m in known]
    assert len(ways[0].publisher.kept) == len(ways[1].publisher.kept)


@pytest.mark.parametrize("asked", [request(call()), request(batch(), "/v1/batch", key="slow")])
async def test_both_ways_refuse_the_same(ways, asked):
    for one in ways:
        one.publisher.fault = Unavailable("Kafka is away")
    found, expected = [parts_of(await one.ask(asked)) for one in ways]
    assert found == expected
    assert found[0] in (b"HTTP/1.1 503 Service Unavailable", b"HTTP/1.1 429 Too Many Requests")


async def test_the_short_way_is_taken(door, monkeypatch):
    taken = []
    monkeypatch.setattr(prompt.Turn, "__init__", lambda *a, **k: taken.append(1) or BEGIN(*a, **k))
    await door.ask(request(call()))
    assert taken == [1]


BEGIN = prompt.Turn.__init__


async def test_a_call_may_come_byte_by_byte(door):
    whole = request(call())
    answer = await door.ask(whole[:7], whole[7:90], whole[90:-20], whole[-20:-1], whole[-1:])
    assert parts_of(answer)[0] == b"HTTP/1.1 200 OK"
    assert len(door.publisher.kept) == 1


@pytest.mark.parametrize("first", ["a call", "a query", "pieces without a length"])
@pytest.mark.parametrize("second", ["a call", "no JSON", "a query", "the tracker"])
async def test_what_comes_behind_another_is_answered_behind_it(door, first, second):
    door.publisher.gate.clear()
    before = CASES[first].replace(b"connection: close\r\n", b"")
    asked = asyncio.create_task(door.ask(before + CASES[second]))
    await asyncio.sleep(0.1)
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


async def test_who_sends_on_and_never_reads_is_let_go(door, monkeypatch):
    monkeypatch.setattr(ending, "DEAF_SECONDS", 1.5)
    monkeypatch.setattr(ending, "MOST_BEHIND", 10_000)
    reader, writer = await door.open()
    one = request(b"", "/perigee.js", method="GET", close=False)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                writer.write(one * 100)
                await writer.drain()
    (connection,) = door.web.server_state.connections
    assert connection.flow.write_paused
    assert connection.transport.get_write_buffer_size() < 200_000
    assert len(connection.pipeline) < 2_000
    await asyncio.sleep(1.2)
    assert (door.web.server_state.connections, door.web.server_state.tasks) == (set(), set())
    assert not reader.at_eof()
    writer.transport.abort()


async def test_a_client_that_goes_away_costs_nothing(door):
    door.publisher.gate.clear()
    _, writer = await door.open()
    writer.write(request(call()))
    await asyncio.sleep(0.1)
    writer.transport.abort()
    await asyncio.sleep(0.1)
    door.publisher.gate.set()
    await asyncio.sleep(0.1)
    assert (len(door.publisher.kept), door.web.server_state.tasks, door.web.server_state.connections) == (
        1,
        set(),
        set(),
    )


async def test_a_stop_waits_for_answers():
    async with Running() as door:
        door.publisher.gate.clear()
        asked = asyncio.create_task(door.ask(request(call(), close=False)))
        await asyncio.sleep(0.1)
        door.web.should_exit = True
        await asyncio.sleep(0.3)
        door.publisher.gate.set()
        assert parts_of(await asked)[0] == b"HTTP/1.1 200 OK"


async def test_a_bug_of_ours_is_500_and_no_secret(door, caplog):
    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        answer = await door.ask(request(call(event="broken"), close=False))
    assert parts_of(answer)[0] == b"HTTP/1.1 500 Internal Server Error"
    assert b"connection: close" in answer
    assert b"ZeroDivisionError" not in answer
    assert "ZeroDivisionError" in caplog.text


async def test_more_at_once_than_there_may_be(door, monkeypatch):
    monkeypatch.setattr(door.web.config, "limit_concurrency", 1)
    assert parts_of(await door.ask(request(call())))[0] == b"HTTP/1.1 503 Service Unavailable"


async def test_no_room_is_503_and_is_given_back(door, monkeypatch):
    monkeypatch.setattr(door.api, "_room", Room(100))
    long = request(call(properties={"x": "y" * 100}))
    assert parts_of(await door.ask(long))[0] == b"HTTP/1.1 503 Service Unavailable"
    for _ in range(5):
        assert parts_of(await door.ask(request(call())))[0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("name", ["a call", "a query"])
async def test_a_connection_that_asks_nothing_more_is_closed_without_a_word(door, monkeypatch, name):
    monkeypatch.setattr(patience, "IDLE_SECONDS", 0.3)
    answer = await door.ask(CASES[name].replace(b"connection: close\r\n", b""))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert await door.ask() == b""
    assert await door.ask(b"\r\n") == b""


@pytest.mark.parametrize("part", [b"POST /v1/tr", request(call())[:60], request(call())[:-3]])
async def test_a_call_that_never_ends_is_408(door, monkeypatch, part):
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 0.3)
    assert (await door.ask(part)).startswith(b"HTTP/1.1 408 ")
    assert door.publisher.kept == []


async def test_headers_without_an_end_are_431(door):
    answer = await door.ask(b"POST /v1/track HTTP/1.1\r\n", b"x-long: " + b"y" * 70_000)
    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


async def test_who_takes_a_little_and_then_nothing_is_let_go(door, monkeypatch):
    monkeypatch.setattr(ending, "DEAF_SECONDS", 0.3)
    monkeypatch.setattr(patience, "IDLE_SECONDS", 0.3)
    connection = await unread(door, 60_000)
    await asyncio.sleep(1.2)
    assert connection not in door.web.server_state.connections


async def test_who_takes_slowly_is_not_let_go(door, monkeypatch):
    monkeypatch.setattr(ending, "DEAF_SECONDS", 0.3)
    monkeypatch.setattr(door.api, "_rest", Large())
    reader, writer = await door.open()
    writer.write(request(b"", "/large", method="GET"))
    taken = 0
    while part := await reader.read(100_000):
        taken += len(part)
        await asyncio.sleep(0.01)
    assert taken > Large.BYTES
    writer.close()


class Large:
    """Answers with more than all buffers take, at once."""

    BYTES = 20_000_000

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % self.BYTES)]})
        await send({"type": "http.response.body", "body": b"x" * self.BYTES})


async def unread(door, size):
    """Return the door's side of a connection with so many bytes that its client does not take."""
    _, writer = await door.open()
    writer.transport.pause_reading()
    writer.write(request(call(), close=False))
    await asyncio.sleep(0.05)
    (connection,) = door.web.server_state.connections
    while not connection.transport.get_write_buffer_size():
        connection.transport.write(b"x" * size)
    return connection


async def test_more_behind_than_anybody_sends_ends_the_connection(door):
    door.publisher.gate.clear()
    answer = await door.ask(request(call(), close=False) * (ending.MOST_BEHIND + 10))
    door.publisher.gate.set()
    assert answer == b""
    assert door.web.server_state.connections == set()


@pytest.mark.parametrize("behind", [b"\x16\x03 junk\r\n\r\n", b"POST /v1/track HTTP/1.1\r\nx: ", b"x" * 80_000])
async def test_what_is_owed_comes_before_what_is_wrong_behind_it(door, monkeypatch, behind):
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 0.2)
    door.publisher.gate.clear()
    asked = asyncio.create_task(door.ask(request(call(), close=False), behind, behind))
    await asyncio.sleep(0.6)
    door.publisher.gate.set()
    answer = await asked
    assert parts_of(answer)[0] == b"HTTP/1.1 200 OK"
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(door.publisher.kept) == 1


async def test_who_was_held_back_has_its_time(door, monkeypatch):
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 0.5)
    door.publisher.gate.clear()
    reader, writer = await door.open()
    second = request(call())
    writer.write(request(call(), close=False) + second[:-5])
    await asyncio.sleep(0.9)
    door.publisher.gate.set()
    await asyncio.sleep(0.3)
    writer.write(second[-5:])
    assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 2


async def test_a_body_has_room_before_it_is_here(door, monkeypatch):
    room = Room(1_000)
    monkeypatch.setattr(door.api, "_room", room)
    whole = request(call(properties={"x": "y" * 700}))
    _, writer = await door.open()
    writer.write(whole[:-1])
    await asyncio.sleep(0.05)
    assert parts_of(await door.ask(whole))[0] == b"HTTP/1.1 503 Service Unavailable"
    writer.transport.abort()
    await asyncio.sleep(0.05)
    assert parts_of(await door.ask(whole))[0] == b"HTTP/1.1 200 OK"


async def test_an_unknown_key_is_told_before_its_body_is_here(door):
    assert parts_of(await door.ask(request(call(), key="other")[:-1]))[0] == b"HTTP/1.1 401 Unauthorized"


async def test_a_stop_does_not_wait_for_half_a_call():
    async with Running() as door:
        asked = asyncio.create_task(door.ask(request(call())[:-1]))
        await asyncio.sleep(0.2)
        door.web.should_exit = True
        assert await asyncio.wait_for(asked, 2) == b""
