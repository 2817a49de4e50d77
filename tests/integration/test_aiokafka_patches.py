"""A connection that breaks on uvloop, which our services run on."""

import asyncio

import uvloop
from aiokafka.client import AIOKafkaClient

from tests.support.waiting import wait_until


async def broken_and_asked(bootstrap_servers):
    """Break a client's connections before it can know, and ask for metadata. Return whether it got them, and asks on."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=5_000)
    await client.bootstrap()
    await client.fetch_all_metadata()
    for connection in client._conns.values():
        transport = connection._writer.transport
        protocol = transport.get_protocol()
        protocol._stream_reader_wr = None  # nobody tells who reads
        transport.abort()
        await wait_until(lambda p=protocol: p._connection_lost, what="the end of the connection")
    asked = [await asyncio.wait_for(client.force_metadata_update(), 10) for _ in range(3)]
    alive = not client._sync_task.done()
    await client.close()
    return asked[-1], alive


async def test_who_waits_for_metadata_gets_them_after_a_connection_broke(servers):
    assert await asyncio.to_thread(uvloop.run, broken_and_asked(servers.kafka)) == (True, True)
