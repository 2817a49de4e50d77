"""Fixed sources, and a publisher that records messages instead of sending them."""

from libs.common.errors import Unavailable
from services.ingest.domain.source import Source

NOW = 1_780_000_000_000_000
TRACK = {"event": "x", "userId": "u"}


class FakeSources:
    is_loaded = True

    def find(self, write_key):
        return Source("default", "web") if write_key == "good" else None


class FakePublisher:
    def __init__(self):
        self.kept = []
        self.fault = None

    async def publish(self, messages, seconds):
        if isinstance(self.fault, Unavailable):
            raise self.fault
        faults = [self.fault if m.topic == "touchpoints" else None for m in messages]
        self.kept += [m for m, fault in zip(messages, faults, strict=True) if fault is None]
        return faults
