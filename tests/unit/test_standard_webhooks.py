"""Standard Webhooks: signatures, secrets, retry delays and the meaning of answers."""

import base64

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from libs.common.clock import SystemClock
from libs.common.errors import ConfigurationError
from libs.common.instants import DAY, HOUR, MINUTE, SECOND
from services.orchestrator.webhooks.standard_webhooks import (
    MAX_RETRY_AFTER,
    RETRY_DELAYS,
    SigningSecret,
    WebhookAnswer,
    encode_secret,
    parse_retry_after,
    retry_delay,
    signed_headers,
)

NOW = 1_780_000_000_000_000


OLD, NEW = (encode_secret(bytes([n]) * 32) for n in (1, 2))


def is_verified(secret, headers, body):
    try:
        Webhook(secret).verify(body.decode(), dict(headers))
    except WebhookVerificationError:
        return False
    return True


def test_official_library_verifies_signatures_during_rotation():
    now, body = SystemClock().now(), b'{"a":1}'

    both = signed_headers([SigningSecret(NEW), SigningSecret(OLD, now + SECOND)], "m-1", now, body)

    assert [is_verified(secret, both, body) for secret in (OLD, NEW)] == [True, True]

    after_rotation = signed_headers([SigningSecret(NEW), SigningSecret(OLD, now)], "m-1", now, body)

    assert [is_verified(secret, after_rotation, body) for secret in (OLD, NEW)] == [False, True]
    assert not is_verified(NEW, both, b'{"a":2}')
    assert not is_verified(
        NEW, [*both[:1], ("webhook-timestamp", str(now // SECOND - 1)), *both[2:]], body
    )
    assert not is_verified(NEW, [("webhook-id", "m-2"), *both[1:]], body)
    assert not is_verified(
        NEW, signed_headers([SigningSecret(NEW)], "m-1", now - 10 * MINUTE, body), body
    )


def test_signing_secret_follows_the_standard():
    assert base64.b64decode(NEW.removeprefix("whsec_")) == b"\x02" * 32

    for size in (23, 65):
        with pytest.raises(ConfigurationError, match="24 to 64"):
            encode_secret(bytes(size))

    with pytest.raises(ConfigurationError, match="base64"):
        signed_headers([SigningSecret("whsec_%%")], "m", NOW, b"")


def test_retry_delays_follow_the_standard():
    assert [wait // SECOND for wait in RETRY_DELAYS] == [
        5,
        300,
        1800,
        7200,
        18000,
        36000,
        50400,
        72000,
        86400,
    ]
    assert retry_delay(1, 0.999) < 6 * SECOND
    assert retry_delay(50, 0.0) == DAY


@pytest.mark.parametrize(
    ("header", "date", "pause"),
    [
        (None, None, None),
        ("7", None, 7 * SECOND),
        (" 7 ", None, 7 * SECOND),
        ("9999999", None, MAX_RETRY_AFTER),
        ("-1", None, None),
        ("soon", None, None),
        ("date", NOW + HOUR, HOUR),
        ("date", NOW - HOUR, 0),
        ("99999999999999999999", None, None),
    ],
)
def test_retry_after_header_is_parsed(header, date, pause):
    assert parse_retry_after(header, NOW, date) == pause


def test_only_2xx_is_a_delivery():
    assert [WebhookAnswer(status, "").meaning for status in (200, 204, 299)] == ["delivered"] * 3
    assert [
        WebhookAnswer(status, "").meaning for status in (None, 100, 301, 400, 404, 429, 500, 503)
    ] == ["again"] * 8
    assert WebhookAnswer(410, "").meaning == "gone"
