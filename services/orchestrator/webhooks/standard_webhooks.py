"""Standard Webhooks 1.0: signatures, retry delays and the classification of answers.

Source: the Standard Webhooks specification. The signed content is `id.timestamp.body`, with
HMAC-SHA256. During a secret rotation a delivery carries one signature per secret, so that the
receiver can switch at any time.
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
"""Delays after the first, second, … failed attempt (µs); the last one repeats until `MAX_AGE`."""
MAX_AGE = parse_duration("7d")
"""Time after its first failure during which a delivery is retried (µs)."""
MAX_RETRY_AFTER = parse_duration("1d")
_SECOND = 1_000_000
_RECEIVER_STATUSES = (401, 403, 404, 408, 410, 425, 429)
"""Statuses about the receiver's state (misconfigured, starting, overloaded), not the message."""
_UNREACHED_STATUSES = (502, 503, 504)
_RETRY_AFTER = re.compile(r"\d{1,7}")

AnswerMeaning = Literal["delivered", "again", "gone"]
FaultKind = Literal["", "unreached", "rejected", "failed"]


class SigningSecret(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret that signs until `ends_at` (microseconds UTC), or forever."""

    text: str
    ends_at: int | None = None


class WebhookAnswer(msgspec.Struct, frozen=True):
    """The answer to a delivery: an HTTP status, or None with the fault in `detail`.

    `pause` is the wait that the receiver asks for (µs).
    """

    status: int | None
    detail: str
    pause: int | None = None
    reached: bool = True
    """Whether the receiver may have read the message."""

    @property
    def meaning(self) -> AnswerMeaning:
        """Return `delivered` for 2xx only; `gone` for 410, with which a receiver unsubscribes."""
        if self.status is not None and 200 <= self.status < 300:
            return "delivered"
        return "gone" if self.status == 410 else "again"

    @property
    def fault(self) -> FaultKind:
        """Return the kind of a failure.

        `unreached`: no receiver answered. `rejected`: a 4xx about the message itself. `failed`: any
        other answer.
        """
        if self.status is None or self.status in _UNREACHED_STATUSES:
            return "unreached"
        return (
            "rejected"
            if 400 <= self.status < 500 and self.status not in _RECEIVER_STATUSES
            else "failed"
        )


def encode_secret(key: bytes) -> str:
    """Return a secret in the text form for receivers.

    Raises ConfigurationError unless the key has 24 to 64 bytes.
    """
    if not 24 <= len(key) <= 64:
        raise ConfigurationError(f"a webhook secret must have 24 to 64 bytes, not {len(key)}")
    return SIGNING_PREFIX + base64.b64encode(key).decode()


def signed_headers(
    secrets: Sequence[SigningSecret], message_id: str, now: int, body: bytes
) -> list[tuple[str, str]]:
    """Return the headers of an attempt at `now` (µs UTC), signed with every valid secret."""
    timestamp = str(now // _SECOND)
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = [
        _signature(s.text, content) for s in secrets if s.ends_at is None or now < s.ends_at
    ]
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", " ".join(signatures)),
        ("content-type", "application/json"),
        ("user-agent", "Perigee-Webhooks/1"),
    ]


def _signature(secret: str, content: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    except binascii.Error:
        raise ConfigurationError("the webhook secret is not valid base64: rotate it") from None
    return "v1," + base64.b64encode(hmac.new(key, content, sha256).digest()).decode()


def retry_delay(attempts: int, chance: float) -> int:
    """Return the wait after `attempts` failed attempts (µs): the table's delay plus jitter.

    The jitter is up to a tenth of the delay; `chance` is a random number in [0, 1).

    >>> retry_delay(1, 0.0)
    5000000
    """
    delay = RETRY_DELAYS[min(attempts, len(RETRY_DELAYS)) - 1]
    return delay + int(delay * chance / 10)


def parse_retry_after(retry_after: str | None, now: int, date: int | None) -> int | None:
    """Return the pause that a Retry-After header asks for (µs), at most a day.

    `date` is the header's value when it is an HTTP date (µs UTC, already parsed).
    """
    if retry_after is None:
        return None
    if _RETRY_AFTER.fullmatch(retry_after.strip()):
        return min(int(retry_after) * _SECOND, MAX_RETRY_AFTER)
    return min(max(0, date - now), MAX_RETRY_AFTER) if date is not None else None
