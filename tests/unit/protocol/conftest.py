"""Listening ingest servers for the tests of HTTP."""

import pytest

from tests.support.ingest_server import IngestServer


@pytest.fixture(scope="package")
async def both():
    """Two servers for all tests: with the buffered protocol, and without."""
    async with IngestServer() as short, IngestServer(asgi=True) as long:
        yield short, long


@pytest.fixture
async def ways(both):
    yield both
    for one in both:
        one.publisher.kept, one.publisher.fault = [], None


@pytest.fixture
def door(ways):
    return ways[0]
