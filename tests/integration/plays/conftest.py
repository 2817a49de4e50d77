"""Fixtures of the play tests."""

import pytest

from tests.support.orchestrator import Mailbox, Orchestrator
from tests.support.scoring import Scoring


@pytest.fixture
def mailbox():
    found = Mailbox()
    found.controller.start()
    yield found
    found.controller.stop()


@pytest.fixture
async def orchestrator(database, mailbox):
    found = Orchestrator(database, mailbox)
    await found.install()
    yield found
    await found.close()


@pytest.fixture
async def scoring(database):
    found = Scoring(database)
    yield found
    await found.close()
