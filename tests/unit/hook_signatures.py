"""Signed hook requests of external systems, from the golden requests of their adapters."""

import base64
import hmac
import json
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.contract.adapter_cases import load_case
from tests.support.tracking_fakes import NOW

SECONDS = NOW // 1_000_000


KEY = generate_private_key(SECP256R1())


PUBLIC = base64.b64encode(
    KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()


STANDARD = "whsec_" + base64.b64encode(b"k" * 24).decode()


SECRETS = {"sendgrid": PUBLIC, "mailgun": "mg-key", "hubspot": "hs-key", "resend": STANDARD}


def digest(key, content):
    return hmac.new(key, content, sha256).digest()


def sign_mailgun(body, seconds):
    document = json.loads(body)
    signature = digest(b"mg-key", f"{seconds}t0".encode()).hex()
    document["signature"] = {"timestamp": str(seconds), "token": "t0", "signature": signature}
    return json.dumps(document).encode(), {}


def sign_sendgrid(body, seconds):
    signature = base64.b64encode(KEY.sign(str(seconds).encode() + body, ECDSA(SHA256()))).decode()
    name = "X-Twilio-Email-Event-Webhook"
    return body, {f"{name}-Timestamp": str(seconds), f"{name}-Signature": signature}


def sign_resend(body, seconds):
    signature = base64.b64encode(digest(b"k" * 24, f"m1.{seconds}.".encode() + body)).decode()
    return body, {
        "svix-id": "m1",
        "svix-timestamp": str(seconds),
        "svix-signature": f"v1,AAAA v1,{signature}",
    }


def sign_hubspot(body, seconds):
    stamp = str(seconds * 1_000)
    request_with_wrong_signature = b"POSThttp://ingest/v1/hook/hubspot" + body + stamp.encode()
    signature = base64.b64encode(digest(b"hs-key", request_with_wrong_signature)).decode()
    return body, {"X-HubSpot-Request-Timestamp": stamp, "X-HubSpot-Signature-v3": signature}


SIGNERS = {
    "mailgun-clicked": sign_mailgun,
    "sendgrid": sign_sendgrid,
    "resend-clicked": sign_resend,
    "hubspot-deal": sign_hubspot,
}


def signed_request(name, seconds=SECONDS):
    case = load_case(name)
    body, headers = SIGNERS[name](json.dumps(case["request"]).encode(), seconds)
    return case, body, headers


def request_with_wrong_signature(adapter):
    """Return a request with all headers of its signature scheme and a wrong signature."""
    at = str(SECONDS)
    if adapter == "mailgun":
        return sign_mailgun(json.dumps({"event-data": {}}).encode(), SECONDS)
    names = {
        "resend": ("svix-id", "svix-timestamp", "svix-signature"),
        "sendgrid": (
            "",
            "x-twilio-email-event-webhook-timestamp",
            "x-twilio-email-event-webhook-signature",
        ),
        "hubspot": ("", "x-hubspot-request-timestamp", "x-hubspot-signature-v3"),
    }[adapter]
    timestamp = f"{at}000" if adapter == "hubspot" else at
    return b"[]", {
        name: value for name, value in zip(names, ("m", timestamp, "v1,AAAA"), strict=True) if name
    }
