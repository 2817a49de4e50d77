"""Somebody sends a friend, the friend buys, and whoever sent them moves; nobody sends themselves."""

import json

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette

from libs.common.db import published_messages
from libs.common.db.connection import connect
from libs.common.messages import Touchpoint
from services.ingest.domain.channel_rules import parse_channel_rules
from services.ingest.domain.request_context import NormalisationRules, RequestContext
from services.ingest.domain.source import Source
from services.ingest.domain.tracking_call import call_from_object
from services.ingest.settings import CHANNELS
from services.orchestrator.api.referrals import referral_route
from services.orchestrator.handlers.referrals import ReferralService
from services.scoring.handlers.identities import Author
from tests.integration.plays.contacts import make_contacts, read_published
from tests.integration.plays.play_texts import NOW, mail, play
from tests.support.encoding_paths import touchpoint_of_call
from tests.support.orchestrator import LINKS
from tests.support.touchpoints import HOUR, touchpoint

ORDER = "mbob-order"
RULES = NormalisationRules(parse_channel_rules(CHANNELS.read_text(), "channels.yaml"))


@pytest.fixture
async def desk(orchestrator):
    return ReferralService(orchestrator.sessions[0], LINKS, orchestrator.clock)


async def came(scoring, orchestrator, who, code, at=0, number="came"):
    """Somebody opens a page with a friend's code in its address, as the door takes it."""
    call = {
        "type": "page", "messageId": f"{who}-{number}", **who_is(who),
        "context": {"page": {"url": f"https://shop.test/?pgr={code}", "search": f"?pgr={code}"}},
    }  # fmt: skip
    found = touchpoint_of_call(
        call_from_object(call),
        RequestContext(Source("default", "web"), NOW, lambda: "m", rules=RULES),
    )
    await hear(scoring, orchestrator, [set_at(found, at)])


def who_is(who):
    return {"anonymousId": who[5:]} if who.startswith("anon:") else {"userId": who}


def set_at(found, at):
    return msgspec.structs.replace(found, occurred_at=NOW + at, received_at=NOW + at)


async def hear(scoring, orchestrator, touchpoints):
    await scoring.ingest(touchpoints)
    await orchestrator.consume(await read_published(scoring))


async def bought(scoring, orchestrator, who, at=HOUR, number="order", trust="server", **more):
    ids = (
        {"user_id": None, "anonymous_id": who[5:]} if who.startswith("anon:") else {"user_id": who}
    )
    order = touchpoint(0, "Order Completed", number=f"{who}-{number}", trust=trust, **ids, **more)
    await hear(scoring, orchestrator, [set_at(order, at)])


async def echoed(scoring, orchestrator):
    """What goes back through the door, as the door takes it; scoring has it then."""
    rows = await orchestrator.fetch("DELETE FROM orchestrator.echoes RETURNING id, body")
    source = Source("default", "orchestrator", trust="server")
    calls = [json.loads(body) for _, body in sorted(rows)]
    found = [
        touchpoint_of_call(
            call_from_object(call), RequestContext(source, NOW + 9 * HOUR, lambda: "m", rules=RULES)
        )
        for call in calls
    ]
    assert all(isinstance(one, Touchpoint) for one in found)
    if found:
        await hear(scoring, orchestrator, found)
    return [call for call in calls if call["event"] == "Referral Converted"]


async def standing(scoring, who):
    rows = await scoring.fetch(
        "SELECT p.stage FROM scoring.publications p JOIN scoring.identifiers i USING (contact_id) "
        "WHERE i.type = 'user_id' AND i.value = $1 AND p.cycle = 'engagement'",
        who,
    )
    return rows[0][0]


@pytest.mark.capability(53)
async def test_whoever_sent_a_friend_moves_when_the_friend_buys_and_back_when_it_never_was(
    orchestrator, scoring, desk, mailbox
):
    ids = await make_contacts(orchestrator, ["ada"])
    await bought(scoring, orchestrator, "ada", 0)
    await orchestrator.publish(
        play([mail("reward")], "reward", trigger={"signal": "referral_converted"})
    )
    code = (await desk.issue_code("default", "ada")).code
    await came(scoring, orchestrator, "anon:phone", code.upper(), HOUR)
    identify = touchpoint(0, "x", number="i", user_id="bob", anonymous_id="phone", type="identify")
    await hear(scoring, orchestrator, [set_at(identify, 2 * HOUR)])
    assert await standing(scoring, "ada") == "customer"
    await bought(scoring, orchestrator, "bob", 3 * HOUR)
    await bought(scoring, orchestrator, "bob", 4 * HOUR, "again")
    (call,) = await echoed(scoring, orchestrator)
    assert (call["userId"], call["context"]) == ("ada", {"initiative": "brand"})
    assert await standing(scoring, "ada") == "ambassador"
    await orchestrator.run_due()
    assert mailbox.recipients == ["ada@x.test"]
    (listed,) = await desk.list_referrals("default", 10)
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
    assert await standing(scoring, "ada") == "customer", (
        "what was told of ada goes when its cause goes"
    )
    await scoring.corrections.correct_touchpoints(
        "default", "bob", "include", [ORDER], Author("ops", "")
    )
    while await scoring.jobs.refold():
        pass
    assert await standing(scoring, "ada") == "ambassador"


@pytest.mark.capability(53)
async def test_nobody_recommends_themselves(orchestrator, scoring, desk):
    await make_contacts(orchestrator, ["ada"])
    code = (await desk.issue_code("default", "ada")).code
    await came(scoring, orchestrator, "ada", code, HOUR)
    await bought(scoring, orchestrator, "ada", 2 * HOUR)
    await came(scoring, orchestrator, "anon:other", code, HOUR)
    same = touchpoint(0, "x", number="i", user_id="ada2", anonymous_id="other", type="identify",
                      traits={"email": " Ada@X.test"})  # fmt: skip
    await hear(scoring, orchestrator, [set_at(same, 2 * HOUR)])
    await bought(scoring, orchestrator, "ada2", 3 * HOUR)
    assert await echoed(scoring, orchestrator) == []
    assert [(one.status, one.reason) for one in await desk.list_referrals("default", 10)] == [
        ("refused", "self_referral")
    ] * 2


async def test_a_device_that_turns_out_to_be_the_referrers_own_is_no_friend(
    orchestrator, scoring, desk
):
    await make_contacts(orchestrator, ["ada"])
    code = (await desk.issue_code("default", "ada")).code
    await came(scoring, orchestrator, "anon:phone", code, HOUR)
    identify = touchpoint(0, "x", number="i", user_id="ada", anonymous_id="phone", type="identify")
    await hear(scoring, orchestrator, [set_at(identify, 2 * HOUR)])
    await bought(scoring, orchestrator, "ada", 3 * HOUR)
    assert await echoed(scoring, orchestrator) == []
    assert [one.reason for one in await desk.list_referrals("default", 10)] == ["self_referral"]


async def test_a_customer_who_opens_a_friends_link_was_won_by_nobody(orchestrator, scoring, desk):
    await make_contacts(orchestrator, ["ada", "bob"])
    code = (await desk.issue_code("default", "ada")).code
    await bought(scoring, orchestrator, "bob", 0)
    await came(scoring, orchestrator, "bob", code, HOUR)
    await came(scoring, orchestrator, "eve", "nobodys", HOUR)
    await bought(scoring, orchestrator, "bob", 2 * HOUR, "second")
    await bought(scoring, orchestrator, "eve", 2 * HOUR)
    assert await echoed(scoring, orchestrator) == []
    assert [one.reason for one in await desk.list_referrals("default", 10)] == [
        "was a customer before"
    ], "eve came by no code at all"


async def test_the_first_friend_counts_and_history_is_nobodys_merit(orchestrator, scoring, desk):
    await make_contacts(orchestrator, ["ada", "eve"])
    first, second = [(await desk.issue_code("default", who)).code for who in ("ada", "eve")]
    await came(scoring, orchestrator, "bob", first, 0)
    await came(scoring, orchestrator, "bob", second, HOUR, "later")
    await bought(scoring, orchestrator, "bob", 2 * HOUR, mode="historical")
    assert await echoed(scoring, orchestrator) == []
    await bought(scoring, orchestrator, "bob", 3 * HOUR, "new")
    assert [call["userId"] for call in await echoed(scoring, orchestrator)] == ["ada"]


async def test_a_mail_that_says_the_link_makes_it_work(orchestrator, scoring, desk, mailbox):
    ids = await make_contacts(orchestrator, ["ada"])
    text = mail(mail={"subject": "s", "text": "give {{ referral_url }} away {{ unsubscribe_url }}"})
    await orchestrator.publish(play([text], trigger={"signal": "order_completed"}))
    await bought(scoring, orchestrator, "ada", 0)
    await orchestrator.run_due()
    code = LINKS.referral_code("default", ids["ada"])
    assert LINKS.referral_url(code) in mailbox.mails[0].content.decode().replace("=\r\n", "")
    transport = httpx2.ASGITransport(Starlette(routes=[referral_route(desk)]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://door") as client:
        answer = await client.get(f"/r/{code}?to=/lamps")
        assert answer.headers["location"].startswith("https://shop.test/lamps?pgr=" + code)
        assert (await client.get("/r/nobodys?to=//evil.example")).headers[
            "location"
        ] == "https://shop.test/"


async def test_nobody_is_rewarded_for_what_anybody_may_say_of_themselves(
    orchestrator, scoring, desk
):
    """Made-up friends by the key that every page shows; a purchase that no server told of; a friend whom nobody knows."""
    await make_contacts(orchestrator, ["ada"])
    code = (await desk.issue_code("default", "ada")).code
    for number in range(3):
        await came(scoring, orchestrator, f"anon:fake-{number}", code, HOUR)
        await bought(scoring, orchestrator, f"anon:fake-{number}", 2 * HOUR, trust="public")
    await came(scoring, orchestrator, "bob", code, HOUR)
    await bought(scoring, orchestrator, "bob", 2 * HOUR, trust="public")
    assert await echoed(scoring, orchestrator) == []
    assert {one.status for one in await desk.list_referrals("default", 10)} == {"open"}
    await bought(scoring, orchestrator, "anon:fake-0", 3 * HOUR, "told")
    assert await echoed(scoring, orchestrator) == []
    assert {one.reason for one in await desk.list_referrals("default", 10)} == {
        "",
        "nobody knows the friend yet",
    }
    join = touchpoint(0, "x", number="j", user_id="zoe", anonymous_id="fake-0", type="identify")
    await hear(scoring, orchestrator, [set_at(join, 4 * HOUR)])
    await bought(scoring, orchestrator, "zoe", 5 * HOUR)
    assert {one.reason for one in await desk.list_referrals("default", 10)} == {
        "",
        "order_completed",
    }, "a guest who is known now"


async def test_a_second_account_on_ones_own_device_or_mailbox_is_no_friend(
    orchestrator, scoring, desk
):
    await make_contacts(orchestrator, ["ada"])
    code = (await desk.issue_code("default", "ada")).code
    claims = [
        touchpoint(
            0,
            "x",
            number=f"i-{who}",
            user_id=who,
            anonymous_id="laptop",
            type="identify",
            traits={"email": mail},
        )
        for who, mail in (("ada", "ada@x.test"), ("ada2", "other@x.test"))
    ]
    tagged = touchpoint(
        0, "x", number="i-3", user_id="ada3", type="identify", traits={"email": "ada+shop@x.test"}
    )
    await hear(scoring, orchestrator, [set_at(one, 0) for one in (*claims, tagged)])
    for who in ("ada2", "ada3"):
        await came(scoring, orchestrator, who, code, HOUR)
        await bought(scoring, orchestrator, who, 2 * HOUR)
    assert await echoed(scoring, orchestrator) == []
    assert [one.reason for one in await desk.list_referrals("default", 10)] == ["self_referral"] * 2


async def test_one_friend_is_sent_by_one(orchestrator, scoring, desk):
    """Two devices of one person came by two codes: the first counts, before or after they turn out to be one person's."""
    await make_contacts(orchestrator, ["ada", "eve"])
    first, second = [(await desk.issue_code("default", who)).code for who in ("ada", "eve")]
    await came(scoring, orchestrator, "anon:phone", first, HOUR)
    await came(scoring, orchestrator, "bob", second, 2 * HOUR)
    join = touchpoint(0, "x", number="j", user_id="bob", anonymous_id="phone", type="identify")
    await hear(scoring, orchestrator, [set_at(join, 3 * HOUR)])
    await bought(scoring, orchestrator, "bob", 4 * HOUR)
    await bought(scoring, orchestrator, "bob", 5 * HOUR, "again")
    assert [call["userId"] for call in await echoed(scoring, orchestrator)] == ["ada"]
    assert sorted((one.status, one.reason) for one in await desk.list_referrals("default", 10)) == [
        ("converted", "order_completed"), ("refused", "another friend came first"),
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["x" * 9_000, "abcdefghi1", "", "a b", "\x00", "🎁" * 10])
async def test_what_can_be_no_code_stops_nothing(orchestrator, scoring, desk, code):
    await make_contacts(orchestrator, ["ada"])
    right = (await desk.issue_code("default", "ada")).code
    typed = touchpoint(
        0, "Referral Code Used", number="c", user_id="bob", properties={"referral_code": code}
    )
    await hear(scoring, orchestrator, [set_at(typed, HOUR)])
    await came(scoring, orchestrator, "bob", right, 2 * HOUR)
    await bought(scoring, orchestrator, "bob", 3 * HOUR)
    assert len(await echoed(scoring, orchestrator)) == 1, (
        "and the right code counts after a mistyped one"
    )


async def test_a_visit_that_is_heard_after_the_purchase_counts_too(orchestrator, scoring, desk):
    await make_contacts(orchestrator, ["ada"])
    code = (await desk.issue_code("default", "ada")).code
    order = touchpoint(0, "Order Completed", number="bob-order", user_id="bob", trust="server")
    await scoring.ingest([set_at(order, 3 * HOUR)])
    rows = await scoring.fetch("SELECT id, topic, value FROM scoring.outbox ORDER BY id")
    connection = await connect(orchestrator.database, application="test")
    await published_messages.insert_from_outbox(
        connection, "scoring", [r[0] for r in rows], ["stage-changes", "signals"]
    )
    await connection.close()
    await orchestrator.consume([value for _, topic, value in rows if topic == "signals"])
    await came(scoring, orchestrator, "bob", code, HOUR)
    assert [call["userId"] for call in await echoed(scoring, orchestrator)] == ["ada"]


async def test_what_was_taken_away_twice_comes_back_when_both_are_taken_back(
    orchestrator, scoring, desk
):
    await make_contacts(orchestrator, ["ada"])
    await bought(scoring, orchestrator, "ada", 0)
    await came(scoring, orchestrator, "bob", (await desk.issue_code("default", "ada")).code, HOUR)
    await bought(scoring, orchestrator, "bob", 2 * HOUR)
    await echoed(scoring, orchestrator)
    stages = []
    for kind in ("exclude", "bot", "human", "include"):
        await scoring.corrections.correct_touchpoints(
            "default", "bob", kind, [ORDER], Author("ops", "")
        )
        while await scoring.jobs.refold():
            pass
        stages.append(await standing(scoring, "ada"))
    assert stages == ["customer"] * 3 + ["ambassador"]


async def test_a_purchase_that_was_taken_away_before_it_was_heard_of_moves_nobody(
    orchestrator, scoring, desk
):
    await make_contacts(orchestrator, ["ada"])
    await came(scoring, orchestrator, "bob", (await desk.issue_code("default", "ada")).code, HOUR)
    order = touchpoint(0, "Order Completed", number="bob-order", user_id="bob", trust="server")
    await scoring.ingest([set_at(order, 2 * HOUR)])
    await scoring.corrections.correct_touchpoints(
        "default", "bob", "exclude", [ORDER], Author("ops", "")
    )
    await orchestrator.consume(await read_published(scoring))
    assert await echoed(scoring, orchestrator) == []
    assert [one.status for one in await desk.list_referrals("default", 10)] == ["open"]


async def test_a_visit_that_is_said_to_be_of_long_ago_earns_nothing(orchestrator, scoring, desk):
    """A sender may say any instant: a customer's own old purchase is nobody's merit."""
    await make_contacts(orchestrator, ["ada"])
    await bought(scoring, orchestrator, "bob", HOUR)
    code = (await desk.issue_code("default", "ada")).code
    visit = touchpoint(
        0, "Referral Code Used", number="c", user_id="bob", properties={"referral_code": code}
    )
    await hear(
        scoring,
        orchestrator,
        [msgspec.structs.replace(visit, occurred_at=1, received_at=NOW + 40 * 24 * HOUR)],
    )
    await bought(scoring, orchestrator, "bob", 41 * 24 * HOUR, "late")
    assert await echoed(scoring, orchestrator) == []
    assert [one.reason for one in await desk.list_referrals("default", 10)] == [
        "was a customer before"
    ]
