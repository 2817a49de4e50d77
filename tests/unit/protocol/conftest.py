"""Doors that listen, for all tests of their HTTP."""

import pytest

from tests.support.listening import Running


@pytest.fixture(scope="package")
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
