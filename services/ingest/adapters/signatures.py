"""Verification of webhook signatures.

Sources: Standard Webhooks 1.0.0; the documentation of webhook signatures of Mailgun, SendGrid and
HubSpot (v3). Old requests are refused, since a captured request could be replayed for ever.
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
    """Check `<prefix>-id`, `-timestamp`, `-signature` over `id.timestamp.body`.

    One valid signature of several is enough. Raises InvalidWebhookSignature.
    """
    message_id = hook.headers.get(f"{prefix}-id", "")
    at = hook.headers.get(f"{prefix}-timestamp", "")
    check_timestamp(at, now)
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:  # also binascii.Error
        raise InvalidWebhookSignature(
            "the source's signing secret is not base64: give it as the sender shows it"
        ) from None
    digest = _digest(key, f"{message_id}.{at}.".encode() + hook.body)
    expected = base64.b64encode(digest).decode()
    signatures = hook.headers.get(f"{prefix}-signature", "").split()
    if not any(
        _is_equal(signature.removeprefix("v1,"), expected)
        for signature in signatures
        if signature.startswith("v1,")
    ):
        raise InvalidWebhookSignature(f"no {prefix}-signature is valid")


def verify_mailgun(fields: Mapping[str, str], secret: str, now: int) -> None:
    """Check Mailgun's signature: HMAC-SHA256 in hexadecimal over timestamp and token.

    `fields` has MAILGUN_FIELDS. Raises InvalidWebhookSignature.
    """
    check_timestamp(fields["timestamp"], now)
    signed = f"{fields['timestamp']}{fields['token']}".encode()
    if not _is_equal(fields["signature"], _digest(secret.encode(), signed).hex()):
        raise InvalidWebhookSignature("the signature does not match the timestamp and the token")


def verify_sendgrid(hook: WebhookRequest, public_key: str, now: int) -> None:
    """Check SendGrid's signature: ECDSA (P-256, SHA-256) over timestamp and body.

    `public_key` is the key that SendGrid's console shows. Raises InvalidWebhookSignature.
    """
    at = hook.headers.get("x-twilio-email-event-webhook-timestamp", "")
    check_timestamp(at, now)
    try:
        key = load_der_public_key(base64.b64decode(public_key))
        signature = base64.b64decode(hook.headers.get("x-twilio-email-event-webhook-signature", ""))
        if not isinstance(key, EllipticCurvePublicKey):
            raise InvalidWebhookSignature(
                "the source's signing secret is not a public key of SendGrid"
            )
        key.verify(signature, at.encode() + hook.body, ECDSA(SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise InvalidWebhookSignature(
            "x-twilio-email-event-webhook-signature is not valid"
        ) from None


def verify_hubspot(hook: WebhookRequest, secret: str, now: int) -> None:
    """Check HubSpot's signature v3: HMAC-SHA256 in base64.

    It is over method, address, body and timestamp (milliseconds). Raises InvalidWebhookSignature.
    """
    at = hook.headers.get("x-hubspot-request-timestamp", "")
    check_timestamp(at, now, per_second=1_000)
    signed = b"POST" + unquote(hook.url).encode() + hook.body + at.encode()
    if not _is_equal(
        hook.headers.get("x-hubspot-signature-v3", ""),
        base64.b64encode(_digest(secret.encode(), signed)).decode(),
    ):
        raise InvalidWebhookSignature(
            "x-hubspot-signature-v3 is not valid: is the address the one that HubSpot calls?"
        )


def check_timestamp(timestamp: str, now: int, *, per_second: int = 1) -> None:
    """Raise InvalidWebhookSignature unless a timestamp is within TOLERANCE_SECONDS of `now`.

    `now` is in microseconds UTC, the timestamp in 1/`per_second` s.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 17):
        raise InvalidWebhookSignature("the request has no timestamp of its signature")
    if abs(int(timestamp) / per_second - now / 1_000_000) > TOLERANCE_SECONDS:
        raise InvalidWebhookSignature(
            f"the request was signed more than {TOLERANCE_SECONDS} s from now: is a clock wrong?"
        )


def _digest(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, sha256).digest()


def _is_equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
