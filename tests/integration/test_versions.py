"""Cycle version rollout on a real PostgreSQL: shadow, live and retired beside a running stream."""

import pytest

from cli.home import PROJECT
from libs.common.db.connection import connect
from libs.common.errors import ConfigurationError, Conflict, NotFound
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.handlers import version_rollout
from services.scoring.handlers.backtest import run_backtest
from services.scoring.handlers.cycle_installation import install_cycles
from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry
from services.scoring.handlers.identities import Author
from tests.support.scoring import Scoring
from tests.support.touchpoints import DAY, HOUR, START, identify, small_cycle, touchpoint

FIRST_VERSION = (PROJECT / "tests" / "support" / "small.yaml").read_text()


def version(number, points):
    return FIRST_VERSION.replace('version: "1"', f'version: "{number}"').replace(
        "points: 4", f"points: {points}"
    )


@pytest.fixture
async def scoring(database):
    service = Scoring(database, [small_cycle()], DatabaseCycleRegistry())
    assert await install_cycles(
        service.sessions[1], [(parse_cycle_spec(FIRST_VERSION, "small"), FIRST_VERSION)]
    ) == ["small"]
    yield service
    await service.close()


async def assert_equal(scoring, text, frontier=-1):
    scoring.cycles = [small_cycle(text)]
    outcome = await scoring.replay_check(frontier)
    assert outcome["equal"], outcome


async def finish(scoring):
    """Run the rollout and the jobs to their end."""
    await scoring.finish_versions()
    await scoring.run_jobs()
    assert not [
        row for row in await scoring.versions.list_versions() if row.filled or row.told or row.swept
    ]


async def statuses(scoring):
    return {row.version: row.status for row in await scoring.versions.list_versions()}


async def test_rollout_publishes_net_changes_of_new_version(scoring, monkeypatch):
    monkeypatch.setattr(version_rollout, "FILL_BATCH", 1)
    await scoring.ingest(
        [touchpoint(0, number=1, user_id="u"), touchpoint(0, "Home", number=2, user_id="v")]
    )

    first_changes = await scoring.outbox("stage-changes")

    assert await scoring.versions.publish(version(2, 1), "ada", 500) == "small@2"

    await scoring.rollout.fill_shadow()
    await scoring.ingest(
        [touchpoint(HOUR, number=3, user_id="u"), touchpoint(HOUR, number=4, user_id="w")]
    )
    await scoring.ingest(
        [touchpoint(HOUR // 2, number=5, user_id="v"), identify(2 * HOUR, "w", "d")], partition=1
    )
    before_rollout = await scoring.outbox("stage-changes")
    assert {c["cycle_version"] for c in before_rollout} == {"1"}, (
        "the shadow version published a change"
    )

    await assert_equal(scoring, FIRST_VERSION)
    await finish(scoring)
    assert await statuses(scoring) == {"1": "retired", "2": "live"}

    await assert_equal(scoring, version(2, 1))
    changes = (await scoring.outbox("stage-changes"))[len(before_rollout) :]

    assert {(c["reason"], c["cycle_version"]) for c in changes} == {("cycle_published", "2")}
    assert len(first_changes) < len(before_rollout)
    assert {
        r[0] for r in await scoring.fetch("SELECT DISTINCT fold FROM scoring.contact_states")
    } == {"small@2"}
    assert (
        await scoring.fetch(
            "SELECT 1 FROM scoring.transitions WHERE fold = 'small@1' AND known_to IS NULL"
        )
        == []
    )
    assert await scoring.fetch("SELECT 1 FROM scoring.transitions WHERE fold = 'small@1'"), (
        "the history of the retired version was deleted"
    )


async def test_net_change_precedes_touchpoint_change(scoring):
    await scoring.ingest([touchpoint(0, number=1, user_id="u")])
    await scoring.versions.publish(version(2, 1), "ada", 500)
    while await scoring.rollout.fill_shadow():
        pass
    await scoring.rollout.activate_shadow()
    await scoring.ingest([touchpoint(HOUR, number=2, user_id="u")])
    last = {}

    for change in await scoring.outbox("stage-changes"):
        assert change["stage"]["from"] == last.get("to")
        assert change["sequence"] == last.get("sequence", 0) + 1
        last = {"to": change["stage"]["to"], "sequence": change["sequence"]}

    assert "cycle_published" in [c["reason"] for c in await scoring.outbox("stage-changes")]

    await finish(scoring)
    await assert_equal(scoring, version(2, 1))


async def test_timers_and_merges_reach_shadow_and_live(scoring):
    await scoring.ingest(
        [touchpoint(0, number=1, user_id="u"), touchpoint(0, number=2, user_id="v")]
    )
    await scoring.versions.publish(version(2, 8), "ada", 500)
    while await scoring.rollout.fill_shadow():
        pass
    await scoring.ingest([touchpoint(DAY, number=3, user_id="v")])
    await scoring.merge("u", "v")
    await scoring.set_frontier(START + 300 * DAY)
    await scoring.run_jobs()
    await assert_equal(scoring, FIRST_VERSION, START + 300 * DAY)
    await finish(scoring)
    await assert_equal(scoring, version(2, 8), START + 300 * DAY)
    await scoring.unmerge("u", "v")
    await assert_equal(scoring, version(2, 8), START + 300 * DAY)


async def test_rollback_drops_shadow_or_restores_previous_version(scoring):
    await scoring.ingest([touchpoint(0, number=1, user_id="u")])
    pure = await scoring.pure_rows()
    await scoring.versions.publish(version(2, 1), "ada", 500)

    await scoring.rollout.fill_shadow()

    assert await scoring.versions.rollback("small", "ada") == "small@1"

    await finish(scoring)
    assert await statuses(scoring) == {"1": "live", "2": "retired"}
    assert await scoring.pure_rows() == pure

    await scoring.versions.publish(version(3, 1), "ada", 500)
    await finish(scoring)
    await scoring.ingest([touchpoint(HOUR, number=2, user_id="u")])
    assert await scoring.versions.rollback("small", "ada") == "small@1"

    await finish(scoring)
    assert await statuses(scoring) == {"1": "live", "2": "retired", "3": "retired"}

    await assert_equal(scoring, FIRST_VERSION)

    with pytest.raises(NotFound, match="no cycle"):
        await scoring.versions.rollback("elsewhere", "ada")


async def test_invalid_version_is_refused_with_location(scoring):
    with pytest.raises(ConfigurationError, match="scores"):
        await scoring.versions.publish(version(2, 1).replace("scores:", "skores:"), "ada", 500)
    with pytest.raises(Conflict, match="is live already"):
        await scoring.versions.publish(FIRST_VERSION, "ada", 500)

    await scoring.versions.publish(version(2, 1), "ada", 500)
    with pytest.raises(Conflict, match="is in progress"):
        await scoring.versions.publish(version(3, 1), "ada", 500)

    await finish(scoring)

    with pytest.raises(Conflict, match="other content"):
        await scoring.versions.publish(version(1, 7), "ada", 500)
    with pytest.raises(Conflict, match="is live"):
        await scoring.versions.save_draft(version(2, 5), "ada")
    assert await scoring.versions.save_draft(version(4, 5), "ada") == "small@4"
    assert (await statuses(scoring))["4"] == "draft"
    assert await scoring.versions.get_text("small", "4") == version(4, 5)
    assert await scoring.versions.get_text("small", None) == version(2, 1)
    with pytest.raises(NotFound, match="no version 9"):
        await scoring.versions.get_text("small", "9")


async def test_install_adds_new_cycles_only(scoring, database):
    await scoring.ingest([touchpoint(0, number=1, user_id="u")])
    other = FIRST_VERSION.replace("cycle: small", "cycle: other")

    files = [
        (parse_cycle_spec(version(2, 1), "small"), version(2, 1)),
        (parse_cycle_spec(other, "other"), other),
    ]

    assert await install_cycles(scoring.sessions[1], files) == ["other"]
    assert {r.cycle: r.status for r in await scoring.versions.list_versions()} == {
        "small": "live", "other": "shadow",
    }  # fmt: skip

    await scoring.ingest(
        [touchpoint(HOUR, number=2, user_id="u"), touchpoint(HOUR, number=3, user_id="w")]
    )
    await finish(scoring)
    scoring.cycles = [small_cycle(), small_cycle(other)]
    outcome = await scoring.replay_check()

    assert outcome["equal"], outcome
    assert {c["cycle"] for c in await scoring.outbox("stage-changes")} == {"small", "other"}


async def test_rate_limits_published_net_changes(scoring):
    await scoring.ingest([touchpoint(n, number=n, user_id=f"u{n}") for n in range(10)])
    await scoring.versions.publish(version(2, 1), "ada", 8)
    while await scoring.rollout.fill_shadow():
        pass
    await scoring.rollout.activate_shadow()
    before = len(await scoring.outbox("stage-changes"))
    await scoring.rollout.publish_net_changes()

    await scoring.rollout.publish_net_changes()

    assert len(await scoring.outbox("stage-changes")) - before == 4, (
        "more changes than half a second of the rate"
    )


async def test_backtest_reports_moves_and_writes_nothing(scoring):
    await scoring.ingest([touchpoint(n, number=n, user_id=f"u{n}") for n in range(7)])
    before = [
        await scoring.pure_rows(),
        await scoring.outbox("stage-changes"),
        await scoring.versions.list_versions(),
    ]
    connection = await connect(scoring.database, application="test")
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        (live_cycle,) = await DatabaseCycleRegistry().get_active_cycles(connection)
        result = await run_backtest(
            connection, live_cycle, small_cycle(version(2, 1)), START + HOUR
        )
        same_result = await run_backtest(
            connection, live_cycle, small_cycle(version(2, 4)), START + HOUR
        )
        new_cycle_result = await run_backtest(
            connection, None, small_cycle(version(2, 1)), START + HOUR
        )
    await connection.close()

    (moved,) = result.moved

    assert (moved.people, len(moved.samples), result.people) == (7, 5, 7)
    assert moved.now != moved.then
    assert {(s.now, s.then) for s in result.steps} == {(7, 0), (0, 7)}
    assert (same_result.moved, same_result.steps) == ([], [])
    assert (new_cycle_result.moved[0].now, new_cycle_result.transitions_now) == ("-", 0)
    assert [
        await scoring.pure_rows(),
        await scoring.outbox("stage-changes"),
        await scoring.versions.list_versions(),
    ] == before


async def test_contact_with_queued_refold_is_filled(scoring):
    await scoring.ingest([touchpoint(0, number=1, user_id="u")])
    await scoring.corrections.correct_touchpoints("default", "u", "exclude", ["m1"], Author("ada"))
    await scoring.versions.publish(version(2, 1), "ada", 500)
    while await scoring.rollout.fill_shadow():
        pass
    await scoring.ingest([touchpoint(HOUR, number=2, user_id="u")])
    await scoring.run_jobs()
    await finish(scoring)
    await assert_equal(scoring, version(2, 1))
