"""HTTP protocol of ingest: buffered requests, timeouts and draining of connections."""

from services.ingest.protocol.buffered import BufferedProtocol
from services.ingest.protocol.timeouts import TimeoutProtocol


class IngestProtocol(TimeoutProtocol, BufferedProtocol):
    """Protocol of a connection to ingest."""
