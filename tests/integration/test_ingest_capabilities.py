"""Touchpoints of web, till, interview and brand, from the tracking call to the contact."""

import itertools
import json

import pytest

from libs.common.ids import WorkspaceId
from libs.common.messages import decode_value
from libs.common.messages.touchpoint import Touchpoint
from services.ingest.adapters.registry import ADAPTERS
from services.ingest.domain.call_mapping import CallMapping, call_from_columns
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import parse_call
from services.ingest.handlers.outgoing_messages import touchpoint_message
from services.ingest.settings import CHANNELS
from services.scoring.handlers.contacts import ContactService
from tests.support.encoding_paths import touchpoint_of_call

IDS = itertools.count()
NOW = 1_790_000_000_000_000
RULES = NormalisationRules(parse_channel_rules(CHANNELS.read_text(), "channels.yaml"))
WEB, TILL = (
    Source(WorkspaceId("default"), "web"),
    Source(WorkspaceId("default"), "till", trust="server"),
)


def to_touchpoints(source, *calls):
    """Return the touchpoints of calls as a reader of the topic decodes them."""
    touchpoints = []
    for number, call in enumerate(calls):
        tracking_call = parse_call(json.dumps(call).encode())
        touchpoint = touchpoint_of_call(
            tracking_call,
            RequestContext(source, NOW + number, lambda: f"made-{next(IDS)}", rules=RULES),
        )
        touchpoints.append(decode_value(Touchpoint, touchpoint_message(touchpoint).value))
    return touchpoints


def contacts(scoring):
    return ContactService(scoring.sessions[2], scoring.cycle_registry)


@pytest.mark.capability(39)
async def test_gated_download_makes_visitor_a_contact(scoring):
    consent = {"consent": {"categoryPreferences": {"marketing": True}}}
    visit = {
        "type": "page",
        "name": "Pricing",
        "anonymousId": "d",
        "timestamp": "2026-05-01T10:00:00Z",
    }
    form = {"anonymousId": "d", "timestamp": "2026-05-01T10:05:00Z", "context": consent}
    await scoring.ingest(to_touchpoints(WEB, visit))
    await scoring.ingest(
        to_touchpoints(
            WEB,
            {**form, "type": "identify", "traits": {"email": "Ada@X.test ", "company": "Acme"}},
            {**form, "type": "track", "event": "Content Downloaded"},
        )
    )

    contact = await contacts(scoring).get("default", "ada@x.test")

    assert contact.identifiers == ["anonymous_id:d"]
    assert contact.traits["company"] == "Acme"

    explanation = await contacts(scoring).explain(
        "default", "ada@x.test", 1_777_629_960_000_000, None
    )
    assert explanation.cycles["engagement"].stage == "reader"

    signals = await scoring.fetch("SELECT value FROM scoring.outbox WHERE topic = 'signals'")
    assert [json.loads(value)["signal"] for (value,) in signals].count("consent_granted") >= 1

    await scoring.ingest(
        to_touchpoints(WEB, {**form, "type": "identify", "userId": "ada", "messageId": "later"})
    )

    assert (await contacts(scoring).get("default", "user_id:ada")).contact_id == contact.contact_id


@pytest.mark.capability(33)
async def test_till_sale_joins_contact_at_its_time(scoring):
    await scoring.ingest(
        to_touchpoints(
            WEB,
            {
                "type": "identify",
                "userId": "ada",
                "anonymousId": "d",
                "timestamp": "2026-05-02T10:00:00Z",
            },
        )
    )
    template = CallMapping(
        {
            "type": "track",
            "event": "Order Completed",
            "userId": {"column": "customer"},
            "timestamp": {
                "column": "when",
                "as": "time",
                "format": "%d/%m/%Y %H:%M",
                "zone": "Europe/Paris",
            },
            "context": {"channel": "shop"},
            "properties": {"total": {"column": "sum", "as": "number", "decimal": ","}},
        }
    )

    (sale,) = to_touchpoints(
        TILL, template.to_call({"customer": "ada", "when": "01/05/2026 12:30", "sum": "1.234,50"})
    )

    assert (sale.occurred_at, sale.channel, sale.value) == (1_777_631_400_000_000, "shop", 1_234.5)

    await scoring.ingest([sale])
    await scoring.ingest(
        to_touchpoints(
            TILL,
            {
                **call_from_columns(
                    {"type": "page", "userId": "ada", "timestamp": "2026-05-03T10:00:00Z"}
                )
            },
        )
    )
    contact = await contacts(scoring).get("default", "ada")

    assert await scoring.fetch(
        "SELECT count(*) FROM scoring.contacts WHERE merged_into IS NULL"
    ) == [(1,)]
    assert contact.cycles["engagement"].stage == "customer"
    assert (await scoring.replay_check())["equal"]


@pytest.mark.capability(34)
async def test_interview_is_stored_and_moves_no_stage(scoring):
    await scoring.ingest(
        to_touchpoints(
            TILL,
            {
                "type": "identify",
                "userId": "ada",
                "timestamp": "2026-05-01T10:00:00Z",
                "traits": {"email": "ada@x.test", "email_verified": True},
            },
        )
    )
    before = await contacts(scoring).get("default", "ada")
    interview = {
        "id": "i-1",
        "held_at": "2026-05-28T09:00:00Z",
        "person": {"email": "ada@x.test"},
        "answers": [
            {"event": "Order Completed", "about": "2026-01-05T00:00:00Z", "said": "in a shop"}
        ],
    }
    declared = to_touchpoints(TILL, *ADAPTERS["interview"].to_calls(interview, {}))
    await scoring.ingest(declared)

    after = await contacts(scoring).get("default", "ada")

    assert after.contact_id == before.contact_id
    assert after.cycles["engagement"].stage == before.cycles["engagement"].stage

    rows = await scoring.fetch("SELECT data FROM scoring.touchpoints ORDER BY occurred_at")

    assert [decode_value(Touchpoint, data).evidence for (data,) in rows] == ["declared", "observed"]


@pytest.mark.capability(31)
async def test_browser_cannot_claim_brand_initiative(
    scoring,
):
    call = {
        "type": "track",
        "event": "Email Delivered",
        "userId": "ada",
        "context": {"initiative": "brand"},
    }

    assert [
        t.initiative
        for t in (
            *to_touchpoints(WEB, call),
            *to_touchpoints(TILL, call),
            *to_touchpoints(TILL, {**call, "context": {}}),
        )
    ] == [
        "contact",
        "brand",
        "contact",
    ]
