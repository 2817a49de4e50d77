"""How senders sign. Sources: Standard Webhooks 1.0.0; Mailgun, SendGrid and HubSpot (v3) documentation of webhook signatures.

An old request is refused, since whoever has caught one could send it again for ever.
"""

import base64
import hmac
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from libs.common.errors import InvalidWebhookSignature
from services.ingest.adapters import WebhookRequest

TOLERANCE_SECONDS = 300
MAILGUN_FIELDS = ("timestamp", "token", "signature")


def verify_standard_webhook(
    hook: WebhookRequest, secret: str, now: int, prefix: str = "webhook"
) -> None:
    """Check `<prefix>-id`, `-timestamp`, `-signature` over `id.timestamp.body`; one of several signatures is enough."""
    number, at = hook.headers.get(f"{prefix}-id", ""), hook.headers.get(f"{prefix}-timestamp", "")
    check_timestamp(at, now)
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:  # binascii.Error is one
        raise InvalidWebhookSignature(
            "the source's signing secret is no base64: give it as the sender shows it"
        ) from None
    signed = base64.b64encode(_digest(key, f"{number}.{at}.".encode() + hook.body)).decode()
    given = hook.headers.get(f"{prefix}-signature", "").split()
    if not any(_same(one.removeprefix("v1,"), signed) for one in given if one.startswith("v1,")):
        raise InvalidWebhookSignature(f"no {prefix}-signature fits")


def verify_mailgun(said: Mapping[str, str], secret: str, now: int) -> None:
    """Check Mailgun's (`said` has MAILGUN): HMAC-SHA256 in hexadecimal over timestamp and token."""
    check_timestamp(said["timestamp"], now)
    if not _same(
        said["signature"],
        _digest(secret.encode(), f"{said['timestamp']}{said['token']}".encode()).hex(),
    ):
        raise InvalidWebhookSignature("the signature does not fit the timestamp and the token")


def verify_sendgrid(hook: WebhookRequest, public_key: str, now: int) -> None:
    """Check SendGrid's: ECDSA (P-256, SHA-256) over timestamp and body, under the public key that its console shows."""
    at = hook.headers.get("x-twilio-email-event-webhook-timestamp", "")
    check_timestamp(at, now)
    try:
        key = load_der_public_key(base64.b64decode(public_key))
        signature = base64.b64decode(hook.headers.get("x-twilio-email-event-webhook-signature", ""))
        if not isinstance(key, EllipticCurvePublicKey):
            raise InvalidWebhookSignature(
                "the source's signing secret is no public key of SendGrid's"
            )
        key.verify(signature, at.encode() + hook.body, ECDSA(SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise InvalidWebhookSignature(
            "x-twilio-email-event-webhook-signature does not fit"
        ) from None


def verify_hubspot(hook: WebhookRequest, secret: str, now: int) -> None:
    """Check HubSpot's v3: HMAC-SHA256 in base64 over method, address, body and timestamp (milliseconds)."""
    at = hook.headers.get("x-hubspot-request-timestamp", "")
    check_timestamp(at, now, per_second=1_000)
    signed = b"POST" + unquote(hook.url).encode() + hook.body + at.encode()
    if not _same(
        hook.headers.get("x-hubspot-signature-v3", ""),
        base64.b64encode(_digest(secret.encode(), signed)).decode(),
    ):
        raise InvalidWebhookSignature(
            "x-hubspot-signature-v3 does not fit: is the address the one that HubSpot calls?"
        )


def check_timestamp(timestamp: str, now: int, *, per_second: int = 1) -> None:
    """Raise InvalidWebhookSignature unless a timestamp is within TOLERANCE_SECONDS of now (microseconds)."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 17):
        raise InvalidWebhookSignature("the request says not when it was signed")
    if abs(int(timestamp) / per_second - now / 1_000_000) > TOLERANCE_SECONDS:
        raise InvalidWebhookSignature(
            f"the request was signed more than {TOLERANCE_SECONDS} s from now: is a clock wrong?"
        )


def _digest(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, sha256).digest()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
