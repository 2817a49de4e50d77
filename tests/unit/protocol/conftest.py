"""Doors that listen, for all tests of their HTTP."""

import pytest

from tests.support.ingest_server import IngestServer


@pytest.fixture(scope="package")
async def both():
    """Two doors that stay open: one with the short way, one without."""
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
