"""A dead letter as an operator sees it: what was refused, where, why; and what it becomes when it is tried again."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from libs.common.errors import ConfigurationError

TOPICS = {"ingest": "touchpoints-dlq", "scoring": "scoring-dlq", "orchestrator": "orchestrator-dlq"}
Headers = Sequence[tuple[str, bytes | None]]
HEADER_PREFIX = "x-dlq-"
MAX_SHOWN_CHARACTERS = 1_000
"""Characters of what a letter holds, in a list."""
BROKER_ERROR = "broker"
"""Where a letter was refused that was a touchpoint already."""


class DeadLetter(msgspec.Struct, frozen=True):
    """One dead letter. `number` names it: topic/partition/offset. `where` is the source, or the place in a topic."""

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
        """Return where it stands among all: (refused_at, number)."""
        return self.refused_at, self.number

    def truncated(self) -> "DeadLetter":
        """Return it without the end of what it holds, as lists show it."""
        return msgspec.structs.replace(self, value=self.value[:MAX_SHOWN_CHARACTERS])

    def matches(self, *, reason: str = "", where: str = "", since: int = 0, text: str = "") -> bool:
        """Return whether the letter passes these filters; empty ones let all pass."""
        return (
            reason in ("", self.reason)
            and where in self.where
            and self.refused_at >= since
            and (not text or text in self.value)
        )


def parse_dead_letter(
    place: tuple[str, int, int],
    key: bytes,
    value: bytes | None,
    headers: Headers,
    at: int,
    mark: str,
) -> DeadLetter:
    """Read a letter from a record that was appended at `at`."""
    said = parse_error_headers(headers)
    topic, partition, offset = place
    where = (
        said.get("where")
        or f"{said.get('topic', '?')}/{said.get('partition', '?')}/{said.get('offset', '?')}"
    )
    return DeadLetter(
        number=f"{topic}/{partition}/{offset}",
        service=next((name for name, one in TOPICS.items() if one == topic), topic),
        reason=said.get("reason", "unknown"),
        error=said.get("error", ""),
        where=where,
        refused_at=refused_at(said, at),
        key=key.decode("utf-8", "replace"),
        value=(value or b"").decode("utf-8", "replace"),
        mark=mark,
    )


def parse_error_headers(headers: Headers) -> dict[str, str]:
    """Return what the headers say of the refusal, by names without their prefix."""
    return {
        name.removeprefix(HEADER_PREFIX): (v or b"").decode("utf-8", "replace")
        for name, v in headers
        if name.startswith(HEADER_PREFIX)
    }


def parse_number(number: str) -> tuple[str, int, int]:
    """Read a letter's number. Raises ConfigurationError."""
    parts = number.split("/")
    if (
        len(parts) != 3
        or parts[0] not in TOPICS.values()
        or not (_is_number(parts[1]) and _is_number(parts[2]))
    ):
        raise ConfigurationError(
            f"{number!r} is no dead letter's number: touchpoints-dlq/3/17, say"
        )
    return parts[0], int(parts[1]), int(parts[2])


def parse_page_cursor(cursor: str) -> tuple[int, str]:
    """Read where a page ended, `refused_at:number`. Raises ConfigurationError."""
    at, _, number = cursor.partition(":")
    if not _is_number(at):
        raise ConfigurationError(
            f"{cursor!r:.80} is no end of a page: 1780000000000000:touchpoints-dlq/3/17, say"
        )
    return int(at), number


def format_instant(instant: int) -> str:
    """Return an instant as people read it."""
    return datetime.fromtimestamp(instant / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def refused_at(said: dict[str, str], otherwise: int) -> int:
    """Return when the door refused it, where the headers say so."""
    at = said.get("at", "")
    return int(at) if _is_number(at) else otherwise


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
