"""Rows 31, 33, 34 and 39 from the door's words to the contact: what comes in is what is known then."""

import itertools
import json

import pytest

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
WEB, TILL = Source("default", "web"), Source("default", "till", trust="server")


def come(source, *calls):
    """Return calls as they lie on the topic."""
    found = []
    for number, call in enumerate(calls):
        read = parse_call(json.dumps(call).encode())
        made = touchpoint_of_call(
            read, RequestContext(source, NOW + number, lambda: f"made-{next(IDS)}", rules=RULES)
        )
        found.append(decode_value(Touchpoint, touchpoint_message(made).value))
    return found


def contacts(scoring):
    return ContactService(scoring.sessions[2], scoring.catalogue)


@pytest.mark.capability(39)
async def test_row_39_a_gated_paper_makes_a_contact_of_a_visitor(scoring):
    consent = {"consent": {"categoryPreferences": {"marketing": True}}}
    visit = {
        "type": "page",
        "name": "Pricing",
        "anonymousId": "d",
        "timestamp": "2026-05-01T10:00:00Z",
    }
    form = {"anonymousId": "d", "timestamp": "2026-05-01T10:05:00Z", "context": consent}
    await scoring.ingest(come(WEB, visit))
    await scoring.ingest(come(WEB, {**form, "type": "identify", "traits": {"email": "Ada@X.test ", "company": "Acme"}},
                            {**form, "type": "track", "event": "Content Downloaded"}))  # fmt: skip
    one = await contacts(scoring).get("default", "ada@x.test")
    assert one.identifiers == ["anonymous_id:d"]
    assert one.traits["company"] == "Acme"
    told = await contacts(scoring).explain("default", "ada@x.test", 1_777_629_960_000_000, None)
    assert told.cycles["engagement"].stage == "reader"
    signals = await scoring.fetch("SELECT value FROM scoring.outbox WHERE topic = 'signals'")
    assert [json.loads(value)["signal"] for (value,) in signals].count("consent_granted") >= 1
    await scoring.ingest(
        come(WEB, {**form, "type": "identify", "userId": "ada", "messageId": "later"})
    )
    assert (await contacts(scoring).get("default", "user_id:ada")).contact_id == one.contact_id


@pytest.mark.capability(33)
async def test_row_33_what_happened_at_the_till_joins_the_same_contact_at_its_own_time(scoring):
    await scoring.ingest(
        come(
            WEB,
            {
                "type": "identify",
                "userId": "ada",
                "anonymousId": "d",
                "timestamp": "2026-05-02T10:00:00Z",
            },
        )
    )
    template = CallMapping({
        "type": "track", "event": "Order Completed", "userId": {"column": "customer"},
        "timestamp": {"column": "when", "as": "time", "format": "%d/%m/%Y %H:%M", "zone": "Europe/Paris"},
        "context": {"channel": "shop"}, "properties": {"total": {"column": "sum", "as": "number", "decimal": ","}},
    })  # fmt: skip
    (sale,) = come(
        TILL, template.to_call({"customer": "ada", "when": "01/05/2026 12:30", "sum": "1.234,50"})
    )
    assert (sale.occurred_at, sale.channel, sale.value) == (1_777_631_400_000_000, "shop", 1_234.5)
    await scoring.ingest([sale])
    await scoring.ingest(
        come(
            TILL,
            {
                **call_from_columns(
                    {"type": "page", "userId": "ada", "timestamp": "2026-05-03T10:00:00Z"}
                )
            },
        )
    )
    one = await contacts(scoring).get("default", "ada")
    assert await scoring.fetch(
        "SELECT count(*) FROM scoring.contacts WHERE merged_into IS NULL"
    ) == [(1,)]
    assert one.cycles["engagement"].stage == "customer"
    assert (await scoring.replay_check())["equal"]


@pytest.mark.capability(34)
async def test_row_34_an_interview_is_beside_what_was_seen_and_moves_nobody(scoring):
    await scoring.ingest(come(TILL, {"type": "identify", "userId": "ada", "timestamp": "2026-05-01T10:00:00Z",
                                   "traits": {"email": "ada@x.test", "email_verified": True}}))  # fmt: skip
    before = await contacts(scoring).get("default", "ada")
    talk = {"id": "i-1", "held_at": "2026-05-28T09:00:00Z", "person": {"email": "ada@x.test"},
            "answers": [{"event": "Order Completed", "about": "2026-01-05T00:00:00Z", "said": "in a shop"}]}  # fmt: skip
    told = come(TILL, *ADAPTERS["interview"].to_calls(talk, {}))
    await scoring.ingest(told)
    after = await contacts(scoring).get("default", "ada")
    assert after.contact_id == before.contact_id
    assert after.cycles["engagement"].stage == before.cycles["engagement"].stage
    rows = await scoring.fetch("SELECT data FROM scoring.touchpoints ORDER BY occurred_at")
    assert [decode_value(Touchpoint, data).evidence for (data,) in rows] == ["declared", "observed"]


@pytest.mark.capability(31)
async def test_row_31_who_took_the_initiative_is_always_said_and_a_browser_cannot_say_that_the_brand_did(
    scoring,
):
    call = {
        "type": "track",
        "event": "Email Delivered",
        "userId": "ada",
        "context": {"initiative": "brand"},
    }
    assert [t.initiative for t in (*come(WEB, call), *come(TILL, call), *come(TILL, {**call, "context": {}}))] == [
        "contact", "brand", "contact",
    ]  # fmt: skip
