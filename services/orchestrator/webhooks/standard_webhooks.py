"""Standard Webhooks 1.0: the signature of a delivery, when it is tried again, and what an answer means.

Source: the Standard Webhooks specification. Signed is `id.timestamp.body` with HMAC-SHA256; while a secret is being replaced a
delivery carries a signature of each, so that a receiver can change over whenever it likes.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

import msgspec

from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError

SIGNING_PREFIX = "whsec_"
RETRY_DELAYS = tuple(
    map(parse_duration, ("5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"))
)
"""After the first attempt, the second and so on (µs); the last wait is repeated until `GIVES_UP`."""
MAX_AGE = parse_duration("7d")
"""How long after its first failure a delivery is tried again (µs)."""
MAX_RETRY_AFTER = parse_duration("1d")
_SECOND = 1_000_000
_OF_THE_MOMENT = (401, 403, 404, 408, 410, 425, 429)
"""What a receiver says of any message when it is set up wrongly, is starting or has too much to do."""
_NOBODY_THERE = (502, 503, 504)
_RETRY_AFTER = re.compile(r"\d{1,7}")

AnswerMeaning = Literal["delivered", "again", "gone"]
FaultKind = Literal["", "unreached", "rejected", "failed"]


class SigningSecret(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret that signs until `ends_at` (microseconds UTC), or without an end."""

    text: str
    ends_at: int | None = None


class WebhookAnswer(msgspec.Struct, frozen=True):
    """What came back: a status, or None with what went wrong; `pause` is how long the receiver asks us to wait (µs)."""

    status: int | None
    detail: str
    pause: int | None = None
    reached: bool = True
    """Whether somebody may have read the message."""

    @property
    def meaning(self) -> AnswerMeaning:
        """Only 2xx is a delivery; 410 says that nobody is there any more."""
        if self.status is not None and 200 <= self.status < 300:
            return "delivered"
        return "gone" if self.status == 410 else "again"

    @property
    def fault(self) -> FaultKind:
        """Return what a failure is about: nobody there, the message (4xx, but for what is about the moment), or neither."""
        if self.status is None or self.status in _NOBODY_THERE:
            return "unreached"
        return (
            "rejected"
            if 400 <= self.status < 500 and self.status not in _OF_THE_MOMENT
            else "failed"
        )


def encode_secret(key: bytes) -> str:
    """Return a secret as receivers are given it. Raises ConfigurationError unless it has 24 to 64 bytes."""
    if not 24 <= len(key) <= 64:
        raise ConfigurationError(f"a webhook's secret has 24 to 64 bytes, not {len(key)}")
    return SIGNING_PREFIX + base64.b64encode(key).decode()


def signed_headers(
    secrets: Sequence[SigningSecret], message_id: str, now: int, body: bytes
) -> list[tuple[str, str]]:
    """Return the headers of an attempt at `now` (microseconds UTC), signed with every secret that holds."""
    stamp = str(now // _SECOND)
    content = f"{message_id}.{stamp}.".encode() + body
    signed = [_signature(s.text, content) for s in secrets if s.ends_at is None or now < s.ends_at]
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", stamp),
        ("webhook-signature", " ".join(signed)),
        ("content-type", "application/json"),
        ("user-agent", "Perigee-Webhooks/1"),
    ]


def _signature(secret: str, content: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    except binascii.Error:
        raise ConfigurationError("a webhook's secret is not base64: rotate it") from None
    return "v1," + base64.b64encode(hmac.new(key, content, sha256).digest()).decode()


def retry_delay(attempts: int, chance: float) -> int:
    """Return how long to wait after so many failed attempts (µs): the table's, and up to a tenth more.

    >>> wait_after(1, 0.0)
    5000000
    """
    wait = RETRY_DELAYS[min(attempts, len(RETRY_DELAYS)) - 1]
    return wait + int(wait * chance / 10)


def parse_retry_after(retry_after: str | None, now: int, date: int | None) -> int | None:
    """Return the pause that a Retry-After asks for (µs), as seconds or as a date that was read already; a day at most."""
    if retry_after is None:
        return None
    if _RETRY_AFTER.fullmatch(retry_after.strip()):
        return min(int(retry_after) * _SECOND, MAX_RETRY_AFTER)
    return min(max(0, date - now), MAX_RETRY_AFTER) if date is not None else None
