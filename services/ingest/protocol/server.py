"""The door's HTTP: prompt with what comes whole, patient with what does not, for as long as it may take."""

from services.ingest.protocol.buffered import BufferedProtocol
from services.ingest.protocol.timeouts import TimeoutProtocol


class IngestProtocol(TimeoutProtocol, BufferedProtocol):
    """What a connection of ingest speaks."""
