"""Unsubscribe tokens: contact and channel, signed. They do not expire, as old mails stay valid."""

import base64
import binascii
import hmac
from hashlib import sha256

from libs.common.ids import ContactId


def sign_token(secret: str, contact_id: ContactId, channel: str) -> str:
    """Return the token: base64url of `contact.channel` and its HMAC-SHA256."""
    body = f"{contact_id}.{channel}"
    signature = hmac.new(secret.encode(), body.encode(), sha256).digest()[:20]
    return base64.urlsafe_b64encode(body.encode() + b"." + signature).decode().rstrip("=")


def verify_token(secret: str, token: str) -> tuple[ContactId, str] | None:
    """Return (contact_id, channel) of a genuine token, else None."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    body, dot, signature = raw[:-21], raw[-21:-20], raw[-20:]
    expected = hmac.new(secret.encode(), body, sha256).digest()[:20]
    if dot != b"." or not hmac.compare_digest(signature, expected):
        return None
    contact_id, _, channel = body.decode("utf-8", "replace").partition(".")
    return ContactId(contact_id), channel
