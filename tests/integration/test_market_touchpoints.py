"""Market events: stored once, shown beside overlapping journeys, without a contact; touches."""

import io

import msgspec
import pytest
from rich.console import Console

from cli.timeline_view import print_timeline
from libs.common.db.connection import connect
from services.scoring.handlers.contact_timeline import ContactTimelineService
from services.scoring.handlers.contacts import ContactService
from services.scoring.repository import market_touchpoints
from tests.support.touchpoints import HOUR, START, touchpoint

MARKET = {"anonymous_id": None, "initiative": "market", "trust": "server"}


async def overlapping_events(database, contact, since=0, until=1 << 52):
    connection = await connect(database, application="test")
    try:
        return [
            t.name
            for t in await market_touchpoints.list_for_contact_between(
                connection, contact, since, until
            )
        ]
    finally:
        await connection.close()


async def test_market_event_is_stored_once_without_contact(scoring):
    award = touchpoint(HOUR, "Award Won", **MARKET)
    batch = [award, touchpoint(2 * HOUR, "Funding Raised", group_id="acme", **MARKET), award]
    await scoring.ingest(batch)

    await scoring.ingest(batch)

    assert [
        r[0] for r in await scoring.fetch("SELECT message_id FROM scoring.outside ORDER BY 1")
    ] == [
        f"m{HOUR}-Award Won",
        f"m{2 * HOUR}-Funding Raised",
    ]
    assert await scoring.fetch("SELECT count(*) FROM scoring.contacts") == [(0,)]
    assert await scoring.fetch("SELECT count(*) FROM scoring.touchpoints") == [(0,)]


@pytest.mark.capability(32)
async def test_market_events_appear_in_overlapping_journeys(scoring, database):
    await scoring.ingest([
        touchpoint(0, user_id="u", group_id="acme"), touchpoint(0, user_id="v", number=2),
        touchpoint(HOUR, "Award Won", **MARKET),
        touchpoint(2 * HOUR, "Funding Raised", group_id="acme", **MARKET),
        touchpoint(
            3 * HOUR, "Opportunity Changed", **{**MARKET, "initiative": "brand"}, group_id="acme"
        ),
    ])  # fmt: skip
    contact_ids = dict(
        await scoring.fetch(
            "SELECT value, contact_id FROM scoring.identifiers WHERE type = 'user_id'"
        )
    )

    assert await overlapping_events(database, contact_ids["u"]) == [
        "Award Won",
        "Funding Raised",
        "Opportunity Changed",
    ]
    assert await overlapping_events(database, contact_ids["v"]) == ["Award Won"]
    assert await overlapping_events(
        database, contact_ids["u"], START + HOUR + 1, START + 2 * HOUR
    ) == ["Funding Raised"]

    output = io.StringIO()
    timelines = ContactTimelineService(scoring.sessions[2], scoring.cycle_registry)
    timeline = msgspec.to_builtins(await timelines.get_timeline("default", "u", 40))
    print_timeline(timeline, Console(file=output, width=200))

    assert "Award Won" in output.getvalue()
    assert (await scoring.replay_check())["equal"]


@pytest.mark.capability(36)
async def test_first_and_last_touch_follow_event_time(scoring):
    mail = {
        "channel": "email",
        "campaign": {"source": "newsletter", "medium": "email", "name": "spring"},
    }
    await scoring.ingest([
        touchpoint(HOUR, user_id="u", channel="search"),
        touchpoint(2 * HOUR, user_id="u", **mail),
        touchpoint(3 * HOUR, user_id="u"),
        touchpoint(4 * HOUR, user_id="u", channel="email", initiative="brand"),
        touchpoint(5 * HOUR, user_id="u", channel="ads", is_bot=True),
    ])  # fmt: skip
    contacts = ContactService(scoring.sessions[2], scoring.cycle_registry)

    contact = await contacts.get("default", "u")

    assert (contact.first_touch.channel, contact.last_touch.channel) == ("search", "email")
    assert contact.last_touch.campaign == mail["campaign"]
    assert contact.last_touch.at == START + 2 * HOUR

    await scoring.ingest(
        [touchpoint(0, user_id="u", channel="social", number=9)]
    )  # earlier and late
    contact = await contacts.get("default", "u")

    assert (contact.first_touch.channel, contact.last_touch.channel) == ("social", "email")
