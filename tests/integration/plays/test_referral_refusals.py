"""Referrals that are refused: self-referrals, existing customers, public purchases."""

import pytest

from tests.integration.plays.contacts import make_contacts
from tests.integration.plays.referral_steps import (
    buy,
    ingest_and_consume,
    ingest_echoes,
    set_at,
    visit_with_code,
)
from tests.support.touchpoints import HOUR, touchpoint


@pytest.mark.capability(53)
async def test_self_referral_is_refused(orchestrator, scoring, referrals):
    await make_contacts(orchestrator, ["ada"])
    code = (await referrals.issue_code("default", "ada")).code
    await visit_with_code(scoring, orchestrator, "ada", code, HOUR)
    await buy(scoring, orchestrator, "ada", 2 * HOUR)
    await visit_with_code(scoring, orchestrator, "anon:other", code, HOUR)
    same_address = touchpoint(
        0,
        "x",
        number="i",
        user_id="ada2",
        anonymous_id="other",
        type="identify",
        traits={"email": " Ada@X.test"},
    )
    await ingest_and_consume(scoring, orchestrator, [set_at(same_address, 2 * HOUR)])

    await buy(scoring, orchestrator, "ada2", 3 * HOUR)

    assert await ingest_echoes(scoring, orchestrator) == []
    assert [
        (referral.status, referral.reason)
        for referral in await referrals.list_referrals("default", 10)
    ] == [("refused", "self_referral")] * 2


async def test_referrers_own_device_is_refused(orchestrator, scoring, referrals):
    await make_contacts(orchestrator, ["ada"])
    code = (await referrals.issue_code("default", "ada")).code
    await visit_with_code(scoring, orchestrator, "anon:phone", code, HOUR)
    identify = touchpoint(0, "x", number="i", user_id="ada", anonymous_id="phone", type="identify")
    await ingest_and_consume(scoring, orchestrator, [set_at(identify, 2 * HOUR)])

    await buy(scoring, orchestrator, "ada", 3 * HOUR)

    assert await ingest_echoes(scoring, orchestrator) == []
    assert [referral.reason for referral in await referrals.list_referrals("default", 10)] == [
        "self_referral"
    ]


async def test_existing_customer_is_no_referral(orchestrator, scoring, referrals):
    await make_contacts(orchestrator, ["ada", "bob"])
    code = (await referrals.issue_code("default", "ada")).code
    await buy(scoring, orchestrator, "bob", 0)
    await visit_with_code(scoring, orchestrator, "bob", code, HOUR)
    await visit_with_code(scoring, orchestrator, "eve", "nobodys", HOUR)
    await buy(scoring, orchestrator, "bob", 2 * HOUR, "second")

    await buy(scoring, orchestrator, "eve", 2 * HOUR)

    assert await ingest_echoes(scoring, orchestrator) == []
    assert [referral.reason for referral in await referrals.list_referrals("default", 10)] == [
        "was a customer before"
    ], "an unknown code made a referral"


async def test_public_purchases_reward_no_referrer(orchestrator, scoring, referrals):
    """Purchases by the public write key and purchases of unknown contacts do not convert."""
    await make_contacts(orchestrator, ["ada"])
    code = (await referrals.issue_code("default", "ada")).code
    for number in range(3):
        await visit_with_code(scoring, orchestrator, f"anon:fake-{number}", code, HOUR)
        await buy(scoring, orchestrator, f"anon:fake-{number}", 2 * HOUR, trust="public")
    await visit_with_code(scoring, orchestrator, "bob", code, HOUR)

    await buy(scoring, orchestrator, "bob", 2 * HOUR, trust="public")

    assert await ingest_echoes(scoring, orchestrator) == []
    assert {referral.status for referral in await referrals.list_referrals("default", 10)} == {
        "open"
    }

    await buy(scoring, orchestrator, "anon:fake-0", 3 * HOUR, "by-server")
    assert await ingest_echoes(scoring, orchestrator) == []
    assert {referral.reason for referral in await referrals.list_referrals("default", 10)} == {
        "",
        "nobody knows the friend yet",
    }

    join = touchpoint(0, "x", number="j", user_id="zoe", anonymous_id="fake-0", type="identify")
    await ingest_and_consume(scoring, orchestrator, [set_at(join, 4 * HOUR)])
    await buy(scoring, orchestrator, "zoe", 5 * HOUR)

    assert {referral.reason for referral in await referrals.list_referrals("default", 10)} == {
        "",
        "order_completed",
    }, "the contact is known since its login"


async def test_second_account_of_referrer_is_refused(orchestrator, scoring, referrals):
    await make_contacts(orchestrator, ["ada"])
    code = (await referrals.issue_code("default", "ada")).code
    claims = [
        touchpoint(
            0,
            "x",
            number=f"i-{user}",
            user_id=user,
            anonymous_id="laptop",
            type="identify",
            traits={"email": mail},
        )
        for user, mail in (("ada", "ada@x.test"), ("ada2", "other@x.test"))
    ]
    tagged_address = touchpoint(
        0, "x", number="i-3", user_id="ada3", type="identify", traits={"email": "ada+shop@x.test"}
    )
    await ingest_and_consume(
        scoring, orchestrator, [set_at(claim, 0) for claim in (*claims, tagged_address)]
    )

    for user in ("ada2", "ada3"):
        await visit_with_code(scoring, orchestrator, user, code, HOUR)
        await buy(scoring, orchestrator, user, 2 * HOUR)

    assert await ingest_echoes(scoring, orchestrator) == []
    assert [claim.reason for claim in await referrals.list_referrals("default", 10)] == [
        "self_referral"
    ] * 2


@pytest.mark.parametrize("code", ["x" * 9_000, "abcdefghi1", "", "a b", "\x00", "🎁" * 10])
async def test_malformed_code_does_not_block_valid_code(orchestrator, scoring, referrals, code):
    await make_contacts(orchestrator, ["ada"])
    valid_code = (await referrals.issue_code("default", "ada")).code
    mistyped = touchpoint(
        0, "Referral Code Used", number="c", user_id="bob", properties={"referral_code": code}
    )
    await ingest_and_consume(scoring, orchestrator, [set_at(mistyped, HOUR)])
    await visit_with_code(scoring, orchestrator, "bob", valid_code, 2 * HOUR)

    await buy(scoring, orchestrator, "bob", 3 * HOUR)

    assert len(await ingest_echoes(scoring, orchestrator)) == 1, (
        "the valid code does not count after a malformed one"
    )
