"""Referrals: a friend's purchase moves the referrer's stage; self-referrals are refused."""

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette

from libs.common.db import published_messages
from libs.common.db.connection import connect
from services.orchestrator.api.referrals import referral_redirect_route
from services.scoring.handlers.identities import Author
from tests.integration.plays.contacts import make_contacts, read_published
from tests.integration.plays.play_texts import NOW, mail, play
from tests.integration.plays.referral_steps import (
    ORDER,
    buy,
    ingest_and_consume,
    ingest_echoes,
    set_at,
    stage_of,
    visit_with_code,
)
from tests.support.orchestrator import LINKS
from tests.support.touchpoints import HOUR, touchpoint


@pytest.mark.capability(53)
async def test_conversion_moves_referrer_and_its_exclusion_reverts(
    orchestrator, scoring, referrals, mailbox
):
    ids = await make_contacts(orchestrator, ["ada"])
    await buy(scoring, orchestrator, "ada", 0)
    await orchestrator.publish(
        play([mail("reward")], "reward", trigger={"signal": "referral_converted"})
    )
    code = (await referrals.issue_code("default", "ada")).code
    await visit_with_code(scoring, orchestrator, "anon:phone", code.upper(), HOUR)
    identify = touchpoint(0, "x", number="i", user_id="bob", anonymous_id="phone", type="identify")

    await ingest_and_consume(scoring, orchestrator, [set_at(identify, 2 * HOUR)])

    assert await stage_of(scoring, "ada") == "customer"

    await buy(scoring, orchestrator, "bob", 3 * HOUR)
    await buy(scoring, orchestrator, "bob", 4 * HOUR, "again")
    (call,) = await ingest_echoes(scoring, orchestrator)
    assert (call["userId"], call["context"]) == ("ada", {"initiative": "brand"})
    assert await stage_of(scoring, "ada") == "ambassador"

    await orchestrator.run_due()
    assert mailbox.recipients == ["ada@x.test"]

    (listed,) = await referrals.list_referrals("default", 10)
    assert (listed.referrer, listed.status, listed.reason) == (
        ids["ada"],
        "converted",
        "order_completed",
    )

    await scoring.corrections.correct_touchpoints(
        "default", "bob", "exclude", [ORDER], Author("ops", "")
    )
    while await scoring.jobs.refold():
        pass
    assert await stage_of(scoring, "ada") == "customer", (
        "the referrer's stage outlives the excluded order"
    )

    await scoring.corrections.correct_touchpoints(
        "default", "bob", "include", [ORDER], Author("ops", "")
    )
    while await scoring.jobs.refold():
        pass

    assert await stage_of(scoring, "ada") == "ambassador"


async def test_first_code_counts_and_history_does_not(orchestrator, scoring, referrals):
    await make_contacts(orchestrator, ["ada", "eve"])
    first_code, second_code = [
        (await referrals.issue_code("default", user)).code for user in ("ada", "eve")
    ]
    await visit_with_code(scoring, orchestrator, "bob", first_code, 0)
    await visit_with_code(scoring, orchestrator, "bob", second_code, HOUR, "later")

    await buy(scoring, orchestrator, "bob", 2 * HOUR, mode="historical")

    assert await ingest_echoes(scoring, orchestrator) == []

    await buy(scoring, orchestrator, "bob", 3 * HOUR, "new")

    assert [call["userId"] for call in await ingest_echoes(scoring, orchestrator)] == ["ada"]


async def test_mail_with_referral_link_creates_its_code(orchestrator, scoring, referrals, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    step = mail(mail={"subject": "s", "text": "give {{ referral_url }} away {{ unsubscribe_url }}"})
    await orchestrator.publish(play([step], trigger={"signal": "order_completed"}))
    await buy(scoring, orchestrator, "ada", 0)
    await orchestrator.run_due()

    code = LINKS.referral_code("default", ids["ada"])

    assert LINKS.referral_url(code) in mailbox.mails[0].content.decode().replace("=\r\n", "")

    transport = httpx2.ASGITransport(Starlette(routes=[referral_redirect_route(referrals)]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://orchestrator") as client:
        response = await client.get(f"/r/{code}?to=/lamps")
        assert response.headers["location"].startswith("https://shop.test/lamps?pgr=" + code)
        assert (await client.get("/r/nobodys?to=//evil.example")).headers[
            "location"
        ] == "https://shop.test/"


async def test_merged_friend_has_one_referrer(orchestrator, scoring, referrals):
    """Two devices of a contact came by two codes: the first counts, before and after a merge."""
    await make_contacts(orchestrator, ["ada", "eve"])
    first_code, second_code = [
        (await referrals.issue_code("default", user)).code for user in ("ada", "eve")
    ]
    await visit_with_code(scoring, orchestrator, "anon:phone", first_code, HOUR)
    await visit_with_code(scoring, orchestrator, "bob", second_code, 2 * HOUR)
    join = touchpoint(0, "x", number="j", user_id="bob", anonymous_id="phone", type="identify")
    await ingest_and_consume(scoring, orchestrator, [set_at(join, 3 * HOUR)])
    await buy(scoring, orchestrator, "bob", 4 * HOUR)

    await buy(scoring, orchestrator, "bob", 5 * HOUR, "again")

    assert [call["userId"] for call in await ingest_echoes(scoring, orchestrator)] == ["ada"]
    assert sorted(
        (referral.status, referral.reason)
        for referral in await referrals.list_referrals("default", 10)
    ) == [
        ("converted", "order_completed"),
        ("refused", "another friend came first"),
    ]


async def test_visit_consumed_after_purchase_counts(orchestrator, scoring, referrals):
    await make_contacts(orchestrator, ["ada"])
    code = (await referrals.issue_code("default", "ada")).code
    order = touchpoint(0, "Order Completed", number="bob-order", user_id="bob", trust="server")
    await scoring.ingest([set_at(order, 3 * HOUR)])
    rows = await scoring.fetch("SELECT id, topic, value FROM scoring.outbox ORDER BY id")
    connection = await connect(orchestrator.database, application="test")
    await published_messages.insert_from_outbox(
        connection, "scoring", [r[0] for r in rows], ["stage-changes", "signals"]
    )
    await connection.close()
    await orchestrator.consume([value for _, topic, value in rows if topic == "signals"])

    await visit_with_code(scoring, orchestrator, "bob", code, HOUR)

    assert [call["userId"] for call in await ingest_echoes(scoring, orchestrator)] == ["ada"]


async def test_conversion_returns_after_both_corrections_are_undone(
    orchestrator, scoring, referrals
):
    await make_contacts(orchestrator, ["ada"])
    await buy(scoring, orchestrator, "ada", 0)
    await visit_with_code(
        scoring, orchestrator, "bob", (await referrals.issue_code("default", "ada")).code, HOUR
    )
    await buy(scoring, orchestrator, "bob", 2 * HOUR)
    await ingest_echoes(scoring, orchestrator)
    stages = []

    for kind in ("exclude", "bot", "human", "include"):
        await scoring.corrections.correct_touchpoints(
            "default", "bob", kind, [ORDER], Author("ops", "")
        )
        while await scoring.jobs.refold():
            pass
        stages.append(await stage_of(scoring, "ada"))

    assert stages == ["customer"] * 3 + ["ambassador"]


async def test_purchase_excluded_before_consumption_is_no_conversion(
    orchestrator, scoring, referrals
):
    await make_contacts(orchestrator, ["ada"])
    await visit_with_code(
        scoring, orchestrator, "bob", (await referrals.issue_code("default", "ada")).code, HOUR
    )
    order = touchpoint(0, "Order Completed", number="bob-order", user_id="bob", trust="server")
    await scoring.ingest([set_at(order, 2 * HOUR)])
    await scoring.corrections.correct_touchpoints(
        "default", "bob", "exclude", [ORDER], Author("ops", "")
    )

    await orchestrator.consume(await read_published(scoring))

    assert await ingest_echoes(scoring, orchestrator) == []
    (referral,) = await referrals.list_referrals("default", 10)
    assert referral.status == "open"


async def test_backdated_visit_is_no_referral(orchestrator, scoring, referrals):
    """A sender chooses the instant: a customer's earlier purchase does not convert."""
    await make_contacts(orchestrator, ["ada"])
    await buy(scoring, orchestrator, "bob", HOUR)
    code = (await referrals.issue_code("default", "ada")).code
    visit = touchpoint(
        0, "Referral Code Used", number="c", user_id="bob", properties={"referral_code": code}
    )
    await ingest_and_consume(
        scoring,
        orchestrator,
        [msgspec.structs.replace(visit, occurred_at=1, received_at=NOW + 40 * 24 * HOUR)],
    )

    await buy(scoring, orchestrator, "bob", 41 * 24 * HOUR, "late")

    assert await ingest_echoes(scoring, orchestrator) == []
    assert [referral.reason for referral in await referrals.list_referrals("default", 10)] == [
        "was a customer before"
    ]
