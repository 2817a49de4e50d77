"""Normalisation of tracking calls, and the reasons of refusals."""

import hmac
import json
from hashlib import sha256

import pytest

from libs.common.errors import InvalidMessage
from libs.common.ids import WorkspaceId
from services.ingest.domain import context
from services.ingest.domain.json_body import MAX_EVENT
from services.ingest.domain.request_context import BatchDefaults, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object, parse_call, parse_object
from tests.support.encoding_paths import touchpoint_of_call

NOW = 1_780_000_000_000_000
PUBLIC = Source(WorkspaceId("default"), "web")
SERVER = Source(WorkspaceId("default"), "crm", trust="server")


def got(message, source=PUBLIC, **fields):
    return touchpoint_of_call(
        call_from_object(message), RequestContext(source, NOW, lambda: "made-up", **fields)
    )


def refused(message, **fields):
    with pytest.raises(InvalidMessage) as error:
        got(message, **fields)
    return error.value.reason


def test_track_call_with_all_fields():
    touchpoint = got(
        {
            "type": "track",
            "event": "Order Completed",
            "messageId": "m1",
            "userId": "u1",
            "anonymousId": "a1",
            "timestamp": "2026-05-28T20:00:00.123456789+00:00",
            "writeKey": "secret",
            "properties": {"total": 12.5},
            "context": {
                "campaign": {"source": "news", "medium": "email", "name": "weekly", "id": "x"},
                "consent": {"categoryPreferences": {"marketing": True, "odd": "yes"}},
                "mode": "historical",
                "initiative": "brand",
                "locale": "fr-FR",
            },
        }
    )

    assert touchpoint.message_id == "m1"
    assert (touchpoint.user_id, touchpoint.anonymous_id) == ("u1", "a1")
    assert touchpoint.occurred_at == 1_779_998_400_123_456
    assert touchpoint.campaign == {"source": "news", "medium": "email", "name": "weekly"}
    assert touchpoint.consent == {"marketing": True}
    assert touchpoint.mode == "historical"
    assert touchpoint.initiative == "contact", "a browser's key may not say that the brand acted"
    assert touchpoint.context == {"locale": "fr-FR"}
    assert touchpoint.routing_key() == "default:a1"


def test_server_may_name_the_initiative():
    assert (
        got(
            {"event": "x", "userId": "u", "context": {"initiative": "brand"}},
            SERVER,
            call_type="track",
        ).initiative
        == "brand"
    )
    assert (
        got(
            {"event": "x", "userId": "u", "context": {"initiative": "alien"}},
            SERVER,
            call_type="track",
        ).initiative
        == "contact"
    )


@pytest.mark.parametrize("value", [None, "", "absent"])
def test_empty_ids_are_absent(value):
    message = {"type": "page", "anonymousId": "a"}

    if value != "absent":
        message["userId"] = value

    assert got(message).user_id is None


def test_numeric_ids_become_text():
    assert got({"type": "page", "userId": 42}).user_id == "42"


def test_missing_message_id_is_generated():
    assert got({"type": "page", "userId": "u"}).message_id == "made-up"


def test_identify_takes_traits_of_the_context():
    message = {"type": "identify", "userId": "u", "context": {"traits": {"email": "e@x.test"}}}

    assert got(message).traits == {"email": "e@x.test"}


def test_message_context_overrides_batch_context():
    message = {"type": "page", "userId": "u", "context": {"locale": "de"}}

    assert got(
        message, batch_defaults=BatchDefaults(context=b'{"locale":"en","library":"go"}')
    ).context == {
        "locale": "de",
        "library": "go",
    }


def test_source_mode_overrides_context():
    assert (
        got({"type": "page", "userId": "u"}, Source("default", "old", mode="historical")).mode
        == "historical"
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (3, "not_an_object"),
        ([], "not_an_object"),
        ({"type": "dance", "userId": "u"}, "unknown_type"),
        ({"userId": "u"}, "unknown_type"),
        ({"type": "track", "event": "x"}, "no_ids"),
        ({"type": "track", "event": "x", "userId": "", "anonymousId": None}, "no_ids"),
        ({"type": "track", "userId": "u"}, "no_event"),
        ({"type": "track", "event": 3, "userId": "u"}, "no_event"),
        ({"type": "track", "event": "x", "userId": {"a": 1}}, "bad_id"),
        ({"type": "track", "event": "x", "userId": True}, "bad_id"),
        ({"type": "track", "event": "x", "userId": "u" * 513}, "bad_id"),
        ({"type": "alias", "userId": "u"}, "no_ids"),
        ({"type": "group", "userId": "u"}, "no_ids"),
        ({"type": "page", "userId": "u", "properties": [1]}, "bad_shape"),
        ({"type": "page", "userId": "u", "context": "x"}, "bad_shape"),
        ({"type": "page", "userId": "u", "timestamp": "yesterday"}, "bad_time"),
        ({"type": "page", "userId": "u", "timestamp": 12}, "bad_time"),
        ({"type": "page", "userId": "u", "timestamp": "1969-12-31T00:00:00Z"}, "bad_time"),
    ],
)
def test_invalid_calls_are_refused_with_a_reason(message, reason):
    assert refused(message) == reason


def test_only_a_server_vouches_for_external_ids_and_addresses():
    said = {
        "type": "identify",
        "userId": "u",
        "traits": {"email": " Ada@X.test ", "email_verified": True},
        "context": {
            "externalIds": [
                {"id": 7, "type": "crm"},
                {"id": "x"},
                "rubbish",
                {"type": "erp", "id": "e-1"},
            ]
        },
    }
    assert (got(said).verified_email, got(said).external_ids) == (None, {})
    told = got(said, SERVER)
    assert (told.verified_email, told.external_ids) == ("ada@x.test", {"crm": "7", "erp": "e-1"})
    unsure = {**said, "traits": {"email": "ada@x.test", "emailVerified": "yes"}}
    assert got(unsure, SERVER).verified_email is None
    alone = {
        "type": "track",
        "event": "Opened",
        "context": {"externalIds": [{"id": "7", "type": "crm"}]},
    }

    assert got(alone, SERVER).routing_key() == "default:crm:7"
    assert refused(alone) == "no_ids"


def test_group_id_of_call_or_context():
    assert got({"type": "group", "userId": "u", "groupId": "acme"}).group_id == "acme"
    assert got({"type": "page", "userId": "u", "context": {"groupId": "acme"}}).group_id == "acme"
    assert refused({"type": "group", "userId": "u"}) == "no_ids"


def test_source_can_require_a_user_hash():
    proof = hmac.new(b"secret", b"u", sha256).hexdigest()
    wary = Source("default", "web", user_hash_secret="secret")
    call = {"type": "page", "userId": "u"}
    assert got({**call, "userHash": proof}, wary).user_id == "u"
    assert got({**call, "context": {"userHash": proof}}, wary).context == {}
    assert got({"type": "page", "anonymousId": "a"}, wary).anonymous_id == "a"

    for wrong in (None, "", 7, proof[:-1] + "0", hmac.new(b"other", b"u", sha256).hexdigest()):
        with pytest.raises(InvalidMessage) as error:
            got({**call, "userHash": wrong}, wary)
        assert error.value.reason == "bad_user_hash"


def test_empty_array_is_an_empty_object():
    found = got({"type": "page", "userId": "u", "properties": [], "traits": [], "context": []})

    assert (found.properties, found.traits, found.context) == ({}, {}, {})


def test_batch_context_is_parsed_once(monkeypatch):
    looked_at = []
    monkeypatch.setattr(
        context,
        "parse_object",
        lambda field, raw: looked_at.append(bytes(raw)) or parse_object(field, raw),
    )
    common = json.dumps(
        {"page": {"url": "https://x.test/?utm_source=a"}, "filling": "x" * context.MAX_CACHED_BYTES}
    ).encode()

    for number in range(5):
        made = got(
            {"type": "page", "userId": "u", "context": {"app": {"build": number}}},
            batch_defaults=BatchDefaults(None, common),
        )
        assert (made.campaign["source"], made.context["app"]) == ("a", {"build": number})

    assert looked_at.count(common) == 1


def test_unused_context_fields_are_not_checked():
    said = {"traits": "odd", "groupId": 1.5, "externalIds": [{"type": 7, "id": {}}]}

    call = {
        "type": "group",
        "userId": "u",
        "groupId": "acme",
        "traits": {"plan": "pro"},
        "context": said,
    }

    assert got(call, SERVER).group_id == "acme"
    assert refused({"type": "identify", "userId": "u", "context": {"traits": "odd"}}) == "bad_shape"


@pytest.mark.parametrize(
    ("properties", "context", "found"),
    [
        ({"content_id": "p"}, {"content": {"id": "c", "type": "t"}}, ("c", "t")),
        (
            {"content": {"id": "q"}, "content_type": "pt"},
            {"content": {"id": "c", "type": "t"}},
            ("q", "pt"),
        ),
        ({"content_id": "p"}, {}, ("p", "")),
    ],
)
def test_content_of_properties_overrides_context(properties, context, found):
    made = got({"type": "page", "userId": "u", "properties": properties, "context": context})

    assert (made.content_id, made.content_type) == found


def test_nul_in_an_address_is_replaced():
    page = {"url": "https://x.test/?utm_source=a%00b&pgr=c%00d"}

    found = got({"type": "page", "userId": "u", "context": {"page": page}})

    assert (found.campaign["source"], found.properties["referral_code"]) == ("a\ufffdb", "c\ufffdd")


def test_unknown_fields_count_for_the_size():
    with pytest.raises(InvalidMessage) as error:
        parse_call(b'{"type":"page","userId":"u","x":"' + b"y" * MAX_EVENT + b'"}')

    assert error.value.reason == "too_large"
