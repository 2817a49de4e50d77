"""Client of the tracking API without Kafka."""

import httpx2
import pytest

from libs.common.clock import FixedClock
from libs.common.observability.health import HealthChecks
from services.ingest.api.tracking import TrackingApi
from services.ingest.domain.request_context import NormalisationRules
from services.ingest.handlers.ingestion import IngestService
from services.ingest.tracker.script import TrackerScripts
from tests.support.tracking_fakes import NOW, FakePublisher, FakeSources


@pytest.fixture
def publisher():
    return FakePublisher()


@pytest.fixture
def sources():
    return FakeSources()


@pytest.fixture
async def client(publisher, sources):
    app = TrackingApi(
        IngestService(sources, publisher, FixedClock(NOW), 1, NormalisationRules()),
        TrackerScripts(),
        HealthChecks({}).app(),
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://door", auth=("good", "")
    ) as client:
        yield client
