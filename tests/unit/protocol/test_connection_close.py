"""Timeouts and limits of connections, and responses that are pending at their end."""

import asyncio
import contextlib

import pytest

from services.ingest.protocol import drain, timeouts
from tests.support.ingest_server import call, parse_response, request
from tests.support.waiting import last, wait_until


async def test_client_that_never_reads_is_disconnected(door, monkeypatch):
    monkeypatch.setattr(drain, "WRITE_TIMEOUT_SECONDS", 1.5)
    monkeypatch.setattr(drain, "MAX_PIPELINED", 10_000)
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
    state = door.web.server_state
    await wait_until(lambda: (state.connections, state.tasks) == (set(), set()))
    assert not reader.at_eof()
    writer.transport.abort()


@pytest.mark.parametrize("path", ["/v1/track", "/v1/track?by=asgi"])
async def test_idle_connection_is_closed_without_response(door, monkeypatch, path):
    monkeypatch.setattr(timeouts, "IDLE_SECONDS", 0.3)

    answer = await door.exchange(request(call(), path, close=False))

    assert answer.count(b"HTTP/1.1 ") == 1
    assert await door.exchange() == b""
    assert await door.exchange(b"\r\n") == b""


@pytest.mark.parametrize("part", [b"POST /v1/tr", request(call())[:60], request(call())[:-3]])
async def test_incomplete_request_is_408(door, monkeypatch, part):
    monkeypatch.setattr(timeouts, "REQUEST_SECONDS", 0.3)

    assert (await door.exchange(part)).startswith(b"HTTP/1.1 408 ")
    assert door.publisher.kept == []


async def test_too_large_headers_are_431(door):
    answer = await door.exchange(b"POST /v1/track HTTP/1.1\r\n", b"x-long: " + b"y" * 70_000)

    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


async def test_client_that_stops_reading_is_disconnected(door, monkeypatch):
    monkeypatch.setattr(drain, "WRITE_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(timeouts, "IDLE_SECONDS", 0.3)
    connection = await unread(door, 60_000)
    await wait_until(lambda: connection not in door.web.server_state.connections)


async def test_slow_reader_stays_connected(door, monkeypatch):
    monkeypatch.setattr(drain, "WRITE_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(door.api, "_rest", Large())
    reader, writer = await door.open()
    writer.write(request(b"", "/large", method="GET"))
    taken = 0
    while part := await reader.read(100_000):
        taken += len(part)
        await last(0.01)
    assert taken > Large.BYTES
    writer.close()


class Large:
    """Answers with more than all buffers take, at once."""

    BYTES = 20_000_000

    async def __call__(self, scope, receive, send):
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"%d" % self.BYTES)],
            }
        )
        await send({"type": "http.response.body", "body": b"x" * self.BYTES})


async def unread(door, size):
    """Return the door's side of a connection with so many bytes that its client does not take."""
    _, writer = await door.open()
    writer.transport.pause_reading()
    writer.write(request(call(), close=False))
    await wait_until(lambda: door.publisher.kept)
    (connection,) = door.web.server_state.connections
    while not connection.transport.get_write_buffer_size():
        connection.transport.write(b"x" * size)
    return connection


async def test_too_many_pipelined_requests_end_the_connection(door):
    door.publisher.gate.clear()
    answer = await door.exchange(request(call(), close=False) * (drain.MAX_PIPELINED + 10))

    door.publisher.gate.set()

    assert answer == b""
    assert door.web.server_state.connections == set()


@pytest.mark.parametrize(
    "behind", [b"\x16\x03 junk\r\n\r\n", b"POST /v1/track HTTP/1.1\r\nx: ", b"x" * 80_000]
)
async def test_pending_response_precedes_a_later_error(door, monkeypatch, behind):
    monkeypatch.setattr(timeouts, "REQUEST_SECONDS", 0.2)
    door.publisher.gate.clear()
    asked = asyncio.create_task(door.exchange(request(call(), close=False), behind, behind))
    await last(0.6)
    door.publisher.gate.set()

    answer = await asked

    assert parse_response(answer)[0] == b"HTTP/1.1 200 OK"
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(door.publisher.kept) == 1


async def test_paused_request_gets_its_full_timeout(door, monkeypatch):
    monkeypatch.setattr(timeouts, "REQUEST_SECONDS", 1.0)
    door.publisher.gate.clear()
    reader, writer = await door.open()
    second = request(call())
    writer.write(request(call(), close=False) + second[:-5])
    await last(1.3)
    door.publisher.gate.set()
    await wait_until(lambda: door.publisher.kept)

    writer.write(second[-5:])

    assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 2
