"""Fixtures of the play tests."""

import pytest

from services.orchestrator.handlers.referrals import ReferralService
from services.orchestrator.handlers.segments import SegmentService
from tests.support.orchestrator import LINKS, MailServer, Orchestrator


@pytest.fixture
def mailbox():
    mail_server = MailServer()
    mail_server.controller.start()
    yield mail_server
    mail_server.controller.stop()


@pytest.fixture
async def orchestrator(database, mailbox):
    process = Orchestrator(database, mailbox)
    await process.install()
    yield process
    await process.close()


@pytest.fixture
async def referrals(orchestrator):
    return ReferralService(orchestrator.sessions[0], LINKS, orchestrator.clock)


@pytest.fixture
async def segments(orchestrator):
    return SegmentService(orchestrator.sessions[0], orchestrator.play_registry, orchestrator.clock)
