"""Steps of a referral: a visit with a code, a purchase, the echo of a conversion."""

import json

import msgspec

from libs.common.messages import Touchpoint
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object
from services.ingest.settings import CHANNELS
from tests.integration.plays.contacts import read_published
from tests.integration.plays.play_texts import NOW
from tests.support.encoding_paths import touchpoint_of_call
from tests.support.touchpoints import HOUR, touchpoint

ORDER = "mbob-order"

RULES = NormalisationRules(parse_channel_rules(CHANNELS.read_text(), "channels.yaml"))


async def visit_with_code(scoring, orchestrator, user, code, at=0, number="came"):
    """Ingest a page view with a referral code in its address."""
    call = {
        "type": "page", "messageId": f"{user}-{number}", **identifiers_of(user),
        "context": {"page": {"url": f"https://shop.test/?pgr={code}", "search": f"?pgr={code}"}},
    }  # fmt: skip
    page_view = touchpoint_of_call(
        call_from_object(call),
        RequestContext(Source("default", "web"), NOW, lambda: "m", rules=RULES),
    )
    await ingest_and_consume(scoring, orchestrator, [set_at(page_view, at)])


def identifiers_of(user):
    return {"anonymousId": user[5:]} if user.startswith("anon:") else {"userId": user}


def set_at(page, at):
    return msgspec.structs.replace(page, occurred_at=NOW + at, received_at=NOW + at)


async def ingest_and_consume(scoring, orchestrator, touchpoints):
    await scoring.ingest(touchpoints)
    await orchestrator.consume(await read_published(scoring))


async def buy(scoring, orchestrator, user, at=HOUR, number="order", trust="server", **more):
    ids = (
        {"user_id": None, "anonymous_id": user[5:]}
        if user.startswith("anon:")
        else {"user_id": user}
    )
    order = touchpoint(0, "Order Completed", number=f"{user}-{number}", trust=trust, **ids, **more)
    await ingest_and_consume(scoring, orchestrator, [set_at(order, at)])


async def ingest_echoes(scoring, orchestrator):
    """Ingest the orchestrator's echoes by the ingest rules; return the referral conversions."""
    rows = await orchestrator.fetch("DELETE FROM orchestrator.echoes RETURNING id, body")
    source = Source("default", "orchestrator", trust="server")
    calls = [json.loads(body) for _, body in sorted(rows)]
    touchpoints = [
        touchpoint_of_call(
            call_from_object(call), RequestContext(source, NOW + 9 * HOUR, lambda: "m", rules=RULES)
        )
        for call in calls
    ]
    assert all(isinstance(echo, Touchpoint) for echo in touchpoints)
    if touchpoints:
        await ingest_and_consume(scoring, orchestrator, touchpoints)
    return [call for call in calls if call["event"] == "Referral Converted"]


async def stage_of(scoring, user):
    rows = await scoring.fetch(
        "SELECT p.stage FROM scoring.publications p JOIN scoring.identifiers i USING (contact_id) "
        "WHERE i.type = 'user_id' AND i.value = $1 AND p.cycle = 'engagement'",
        user,
    )
    return rows[0][0]
