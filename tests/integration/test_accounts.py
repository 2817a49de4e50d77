"""Accounts on a real PostgreSQL: memberships in time, signals rolled up, changes on the topic."""

import random

import pytest

from cli.home import PROJECT
from libs.common.db.connection import connect
from services.scoring.domain.account_membership import LEAVE_EVENT
from services.scoring.handlers.account_jobs import AccountJobs
from services.scoring.handlers.identities import Author
from tests.support.scoring import PARTITIONS, Scoring, assert_replay_equal
from tests.support.touchpoints import DAY, HOUR, START, shipped, small_cycle, touchpoint

COMPANIES = (PROJECT / "tests" / "support" / "companies.yaml").read_text()


@pytest.fixture
async def scoring(database):
    service = Scoring(database, [shipped(), small_cycle(COMPANIES)])
    service.accounts = AccountJobs(
        service.sessions[1], service.outboxes, service.cycle_registry, PARTITIONS
    )
    yield service
    await service.close()


def joins(at, user, group="acme", **fields):
    return touchpoint(
        at,
        "",
        type="group",
        user_id=user,
        group_id=group,
        number=f"join-{user}-{group}-{at}",
        **fields,
    )


def downloads(at, user, **fields):
    return touchpoint(at, "Content Downloaded", user_id=user, number=f"d-{user}-{at}", **fields)


async def fold(scoring):
    await scoring.run_jobs()
    while await scoring.accounts.refold():
        pass
    await scoring.accounts.refold()
    while await scoring.accounts.fire_timers():
        pass


async def changes(scoring):
    return [c for c in await scoring.outbox("stage-changes") if "account_id" in c]


@pytest.mark.capability(19)
async def test_member_signals_fold_into_account_alone(scoring):
    await scoring.ingest(
        [
            joins(0, "u"),
            joins(0, "v"),
            downloads(HOUR, "u"),
            downloads(2 * HOUR, "v"),
            downloads(3 * HOUR, "u"),
        ]
    )
    await scoring.ingest([downloads(4 * HOUR, "w")], partition=1)
    contact_changes = [c for c in await scoring.outbox("stage-changes") if "account_id" not in c]
    await fold(scoring)

    account_changes = await changes(scoring)

    assert {c["group_id"] for c in account_changes} == {"acme"}
    assert [c["stage"]["to"] for c in account_changes] == ["target", "account"]
    assert [c["sequence"] for c in account_changes] == [1, 2]
    assert [
        c for c in await scoring.outbox("stage-changes") if "account_id" not in c
    ] == contact_changes
    assert (await assert_replay_equal(scoring))["accounts"] == 1


async def test_only_signals_during_membership_count(scoring):
    await scoring.ingest([downloads(0, "u"), joins(HOUR, "u"), downloads(2 * HOUR, "u")])
    leave_event = touchpoint(3 * HOUR, LEAVE_EVENT, user_id="u", group_id="acme", number="left")
    await scoring.ingest([leave_event, downloads(4 * HOUR, "u"), downloads(5 * HOUR, "u")])

    await fold(scoring)

    assert (await changes(scoring))[-1]["stage"]["to"] == "target"

    await assert_replay_equal(scoring)
    await scoring.ingest(
        [downloads(6 * HOUR, "u", group_id="acme"), downloads(7 * HOUR, "x", group_id="acme")]
    )
    await fold(scoring)

    assert (await changes(scoring))[-1]["stage"]["to"] == "account", (
        "a touchpoint that names the account does not count for it"
    )

    await assert_replay_equal(scoring)


async def test_merges_corrections_and_late_touchpoints_reach_account(scoring):
    await scoring.ingest(
        [joins(0, "u"), downloads(HOUR, "v"), downloads(2 * HOUR, "v"), downloads(3 * HOUR, "v")]
    )
    await fold(scoring)

    assert (await changes(scoring))[-1]["stage"]["to"] == "target"

    await scoring.merge("u", "v")
    await fold(scoring)
    assert (await changes(scoring))[-1]["stage"]["to"] == "account"

    await assert_replay_equal(scoring)
    await scoring.unmerge("u", "v")
    await fold(scoring)
    assert (await changes(scoring))[-1]["stage"]["to"] == "target"

    await assert_replay_equal(scoring)
    await scoring.ingest([joins(30 * 60 * 1_000_000, "v")])
    await fold(scoring)
    await assert_replay_equal(scoring)
    await scoring.corrections.correct_touchpoints("default", "v", "bot", [], Author("me"))
    await fold(scoring)
    await assert_replay_equal(scoring)
    sequences = [c["sequence"] for c in await changes(scoring)]

    assert sequences == list(range(1, len(sequences) + 1))


async def test_account_timer_makes_it_dormant(scoring):
    await scoring.ingest([joins(0, "u"), downloads(DAY, "u")])
    await fold(scoring)
    await scoring.set_frontier(START + 100 * DAY)

    await fold(scoring)

    assert (await changes(scoring))[-1]["direction"] == "dormancy"

    await assert_replay_equal(scoring, START + 100 * DAY)


@pytest.mark.parametrize("seed", range(3))
async def test_arrival_order_does_not_change_accounts(scoring, seed):
    chance = random.Random(seed)
    trace = []
    for n in range(80):
        user, group = chance.choice("uvwx"), chance.choice(["acme", "bolt"])
        at = n * HOUR
        kind = chance.random()
        if kind < 0.15:
            trace.append(joins(at, user, group))
        elif kind < 0.22:
            trace.append(
                touchpoint(at, LEAVE_EVENT, user_id=user, group_id=group, number=f"left{n}")
            )
        else:
            trace.append(
                downloads(at, user, **({"group_id": group} if chance.random() < 0.2 else {}))
            )
    chance.shuffle(trace)
    while trace:
        size = chance.randrange(1, 9)
        await scoring.ingest(trace[:size], partition=chance.randrange(3))
        trace = trace[size:]
        if chance.random() < 0.3:
            await scoring.accounts.refold()

    await fold(scoring)

    assert (await assert_replay_equal(scoring))["accounts"] == 2


async def test_fold_of_large_account_blocks_no_partition(scoring):
    """Batches of two partitions append to one account's queue while its row is locked."""
    await scoring.ingest([joins(n, f"u{n}") for n in range(300)])
    await fold(scoring)
    connection = await connect(scoring.database, application="test-lock")
    async with connection.transaction():
        await connection.execute("SELECT 1 FROM scoring.accounts FOR UPDATE")
        await scoring.ingest([downloads(HOUR, f"u{n}") for n in range(150)], partition=1)
        await scoring.ingest([downloads(2 * HOUR, f"u{n}") for n in range(150)], partition=2)
    await connection.close()
    await fold(scoring)
    await assert_replay_equal(scoring)
