"""aiokafka on uvloop, the services' event loop, when a connection breaks."""

import asyncio

import uvloop
from aiokafka.client import AIOKafkaClient

from tests.support.waiting import wait_until


async def refresh_metadata_after_break(bootstrap_servers):
    """Break a client's connections and ask for metadata.

    Return the last result and whether the client's refresh task is alive.
    """
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=5_000)
    await client.bootstrap()
    await client.fetch_all_metadata()
    for connection in client._conns.values():
        transport = connection._writer.transport
        protocol = transport.get_protocol()
        protocol._stream_reader_wr = None  # the reader is not woken
        transport.abort()
        await wait_until(lambda p=protocol: p._connection_lost, what="the end of the connection")
    results = [await asyncio.wait_for(client.force_metadata_update(), 10) for _ in range(3)]
    alive = not client._sync_task.done()
    await client.close()
    return results[-1], alive


async def test_metadata_refresh_survives_broken_connection(servers):
    assert await asyncio.to_thread(uvloop.run, refresh_metadata_after_break(servers.kafka)) == (
        True,
        True,
    )
