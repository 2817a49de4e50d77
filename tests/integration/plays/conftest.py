"""Fixtures of the play tests."""

import pytest

from tests.support.orchestrator import MailServer, Orchestrator


@pytest.fixture
def mailbox():
    found = MailServer()
    found.controller.start()
    yield found
    found.controller.stop()


@pytest.fixture
async def orchestrator(database, mailbox):
    found = Orchestrator(database, mailbox)
    await found.install()
    yield found
    await found.close()
