"""JSON logs, one event a line, without personal data: ids, counts and reasons, never bodies."""

import logging
import sys
import time
from typing import Any

import structlog


def configure_logging(service: str) -> None:
    """Write structlog's and the standard library's logs to stdout as JSON lines with `service`."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.addFilter(RateLimitFilter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class RateLimitFilter(logging.Filter):
    """Limit of `limit` lines a second for each logger.

    aiokafka retries in a tight loop while a leader is unknown: 36,000 lines in 13 s were measured.
    """

    def __init__(self, limit: int = 5) -> None:
        super().__init__()
        self.limit = limit
        self.seen: dict[str, tuple[int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether this line is among the first `limit` of its logger in this second."""
        second = int(time.monotonic())
        last_second, count = self.seen.get(record.name, (second, 0))
        count = count + 1 if last_second == second else 1
        self.seen[record.name] = (second, count)
        return count <= self.limit


def get_logger(name: str) -> Any:
    """Return a logger that adds the module name."""
    return structlog.get_logger(module=name)
