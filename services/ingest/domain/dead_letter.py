"""Dead letters as operators see them: the refused message, its origin and the reason."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from libs.common.errors import ConfigurationError

TOPICS = {"ingest": "touchpoints-dlq", "scoring": "scoring-dlq", "orchestrator": "orchestrator-dlq"}
Headers = Sequence[tuple[str, bytes | None]]
HEADER_PREFIX = "x-dlq-"
MAX_SHOWN_CHARACTERS = 1_000
"""Characters of a dead letter's value in a list."""
BROKER_ERROR = "broker"
"""The `where` of a touchpoint that the broker refused."""


class RecordPosition(NamedTuple):
    """Position of a record in Kafka."""

    topic: str
    partition: int
    offset: int


class DeadLetter(msgspec.Struct, frozen=True):
    """One dead letter; `number` is its topic/partition/offset.

    `where` is the source of the message, or the topic, partition and offset of the refused record.
    """

    number: str
    service: str
    reason: str
    error: str
    where: str
    refused_at: int
    key: str
    value: str
    mark: str = ""

    @property
    def sort_key(self) -> tuple[int, str]:
        """Return its position in lists: (refused_at, number)."""
        return self.refused_at, self.number

    def truncated(self) -> "DeadLetter":
        """Return it with its value cut off at MAX_SHOWN_CHARACTERS."""
        return msgspec.structs.replace(self, value=self.value[:MAX_SHOWN_CHARACTERS])

    def matches(self, *, reason: str = "", where: str = "", since: int = 0, text: str = "") -> bool:
        """Return whether it passes the filters; an empty filter passes all."""
        return (
            reason in ("", self.reason)
            and where in self.where
            and self.refused_at >= since
            and (not text or text in self.value)
        )


def parse_dead_letter(
    position: tuple[str, int, int],
    key: bytes,
    value: bytes | None,
    headers: Headers,
    at: int,
    mark: str,
) -> DeadLetter:
    """Parse a record that was appended at `at`; `position` is its topic, partition and offset."""
    details = parse_error_headers(headers)
    topic, partition, offset = position
    where = details.get("where") or "/".join(
        details.get(name, "?") for name in ("topic", "partition", "offset")
    )
    return DeadLetter(
        number=f"{topic}/{partition}/{offset}",
        service=next((name for name, dlq in TOPICS.items() if dlq == topic), topic),
        reason=details.get("reason", "unknown"),
        error=details.get("error", ""),
        where=where,
        refused_at=refused_at(details, at),
        key=key.decode("utf-8", "replace"),
        value=(value or b"").decode("utf-8", "replace"),
        mark=mark,
    )


def parse_error_headers(headers: Headers) -> dict[str, str]:
    """Return the values of the refusal's headers by name, without HEADER_PREFIX."""
    return {
        name.removeprefix(HEADER_PREFIX): (v or b"").decode("utf-8", "replace")
        for name, v in headers
        if name.startswith(HEADER_PREFIX)
    }


def parse_number(number: str) -> RecordPosition:
    """Parse the number of a dead letter. Raises ConfigurationError."""
    parts = number.split("/")
    if (
        len(parts) != 3
        or parts[0] not in TOPICS.values()
        or not (_is_number(parts[1]) and _is_number(parts[2]))
    ):
        raise ConfigurationError(
            f"{number!r} is no dead letter's number: touchpoints-dlq/3/17, say"
        )
    return RecordPosition(parts[0], int(parts[1]), int(parts[2]))


def parse_page_cursor(cursor: str) -> tuple[int, str]:
    """Parse the cursor of a page, `refused_at:number`. Raises ConfigurationError."""
    at, _, number = cursor.partition(":")
    if not _is_number(at):
        raise ConfigurationError(
            f"{cursor!r:.80} is no end of a page: 1780000000000000:touchpoints-dlq/3/17, say"
        )
    return int(at), number


def format_instant(instant: int) -> str:
    """Format an instant (µs UTC) as date and time."""
    return datetime.fromtimestamp(instant / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def refused_at(details: dict[str, str], otherwise: int) -> int:
    """Return the instant of the refusal by ingest, if the headers have it."""
    at = details.get("at", "")
    return int(at) if _is_number(at) else otherwise


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
