"""Cycle versions on a real PostgreSQL: published beside the live one while the stream runs, rolled back, given up."""

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

FIRST = (PROJECT / "tests" / "support" / "small.yaml").read_text()


def version(number, points):
    return FIRST.replace('version: "1"', f'version: "{number}"').replace(
        "points: 4", f"points: {points}"
    )


@pytest.fixture
async def scoring(database):
    found = Scoring(database, [small_cycle()], DatabaseCycleRegistry())
    assert await install_cycles(found.sessions[1], [(parse_cycle_spec(FIRST, "small"), FIRST)]) == [
        "small"
    ]
    yield found
    await found.close()


async def equal(scoring, text, frontier=-1):
    scoring.cycles = [small_cycle(text)]
    outcome = await scoring.replay_check(frontier)
    assert outcome["equal"], outcome


async def finish(scoring):
    """Let everything that is on its way come to its end."""
    await scoring.finish_versions()
    await scoring.run_jobs()
    assert not [
        row for row in await scoring.versions.list_versions() if row.filled or row.told or row.swept
    ]


async def statuses(scoring):
    return {row.version: row.status for row in await scoring.versions.list_versions()}


async def test_a_version_is_filled_while_the_stream_runs_and_told_as_net_changes(
    scoring, monkeypatch
):
    monkeypatch.setattr(version_rollout, "FILL_BATCH", 1)
    await scoring.ingest(
        [touchpoint(0, number=1, user_id="u"), touchpoint(0, "Home", number=2, user_id="v")]
    )
    before = await scoring.outbox("stage-changes")
    assert await scoring.versions.publish(version(2, 1), "ada", 500) == "small@2"
    await scoring.publishing.fill_shadow()
    await scoring.ingest(
        [touchpoint(HOUR, number=3, user_id="u"), touchpoint(HOUR, number=4, user_id="w")]
    )
    await scoring.ingest(
        [touchpoint(HOUR // 2, number=5, user_id="v"), identify(2 * HOUR, "w", "d")], partition=1
    )
    told = await scoring.outbox("stage-changes")
    assert {c["cycle_version"] for c in told} == {"1"}, "a shadow tells nobody"
    await equal(scoring, FIRST)
    await finish(scoring)
    assert await statuses(scoring) == {"1": "retired", "2": "live"}
    await equal(scoring, version(2, 1))
    changes = (await scoring.outbox("stage-changes"))[len(told) :]
    assert {(c["reason"], c["cycle_version"]) for c in changes} == {("cycle_published", "2")}
    assert len(before) < len(told)
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
        "what was known stays"
    )


async def test_a_touchpoint_after_the_flip_tells_the_net_change_first(scoring):
    await scoring.ingest([touchpoint(0, number=1, user_id="u")])
    await scoring.versions.publish(version(2, 1), "ada", 500)
    while await scoring.publishing.fill_shadow():
        pass
    await scoring.publishing.activate_shadow()
    await scoring.ingest([touchpoint(HOUR, number=2, user_id="u")])
    last = {}
    for change in await scoring.outbox("stage-changes"):
        assert change["stage"]["from"] == last.get("to")
        assert change["sequence"] == last.get("sequence", 0) + 1
        last = {"to": change["stage"]["to"], "sequence": change["sequence"]}
    assert "cycle_published" in [c["reason"] for c in await scoring.outbox("stage-changes")]
    await finish(scoring)
    await equal(scoring, version(2, 1))


async def test_timers_merges_and_corrections_reach_shadow_and_live(scoring):
    await scoring.ingest(
        [touchpoint(0, number=1, user_id="u"), touchpoint(0, number=2, user_id="v")]
    )
    await scoring.versions.publish(version(2, 8), "ada", 500)
    while await scoring.publishing.fill_shadow():
        pass
    await scoring.ingest([touchpoint(DAY, number=3, user_id="v")])
    await scoring.merge("u", "v")
    await scoring.set_frontier(START + 300 * DAY)
    await scoring.run_jobs()
    await equal(scoring, FIRST, START + 300 * DAY)
    await finish(scoring)
    await equal(scoring, version(2, 8), START + 300 * DAY)
    await scoring.unmerge("u", "v")
    await equal(scoring, version(2, 8), START + 300 * DAY)


async def test_a_rollback_gives_up_a_shadow_or_publishes_the_one_before(scoring):
    await scoring.ingest([touchpoint(0, number=1, user_id="u")])
    pure = await scoring.pure_rows()
    await scoring.versions.publish(version(2, 1), "ada", 500)
    await scoring.publishing.fill_shadow()
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
    await equal(scoring, FIRST)
    with pytest.raises(NotFound, match="no cycle"):
        await scoring.versions.rollback("elsewhere", "ada")


async def test_what_cannot_be_published_is_refused_with_the_place(scoring):
    with pytest.raises(ConfigurationError, match="scores"):
        await scoring.versions.publish(version(2, 1).replace("scores:", "skores:"), "ada", 500)
    with pytest.raises(Conflict, match="is live already"):
        await scoring.versions.publish(FIRST, "ada", 500)
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


async def test_a_file_that_differs_is_not_taken_over_and_a_new_cycle_is_filled(scoring, database):
    await scoring.ingest([touchpoint(0, number=1, user_id="u")])
    other = FIRST.replace("cycle: small", "cycle: other")
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


async def test_the_rate_bounds_how_many_are_told_at_once(scoring):
    await scoring.ingest([touchpoint(n, number=n, user_id=f"u{n}") for n in range(10)])
    await scoring.versions.publish(version(2, 1), "ada", 8)
    while await scoring.publishing.fill_shadow():
        pass
    await scoring.publishing.activate_shadow()
    before = len(await scoring.outbox("stage-changes"))
    await scoring.publishing.publish_net_changes()
    await scoring.publishing.publish_net_changes()
    assert len(await scoring.outbox("stage-changes")) - before == 4, "half a second's worth, once"


async def test_a_backtest_says_who_would_move_and_touches_nothing(scoring):
    await scoring.ingest([touchpoint(n, number=n, user_id=f"u{n}") for n in range(7)])
    before = [
        await scoring.pure_rows(),
        await scoring.outbox("stage-changes"),
        await scoring.versions.list_versions(),
    ]
    connection = await connect(scoring.database, application="test")
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        (now,) = await DatabaseCycleRegistry().get_active_cycles(connection)
        found = await run_backtest(connection, now, small_cycle(version(2, 1)), START + HOUR)
        same = await run_backtest(connection, now, small_cycle(version(2, 4)), START + HOUR)
        alone = await run_backtest(connection, None, small_cycle(version(2, 1)), START + HOUR)
    await connection.close()
    (moved,) = found.moved
    assert (moved.people, len(moved.samples), found.people) == (7, 5, 7)
    assert moved.now != moved.then
    assert {(s.now, s.then) for s in found.steps} == {(7, 0), (0, 7)}
    assert (same.moved, same.steps) == ([], [])
    assert (alone.moved[0].now, alone.transitions_now) == ("-", 0)
    assert [
        await scoring.pure_rows(),
        await scoring.outbox("stage-changes"),
        await scoring.versions.list_versions(),
    ] == before


async def test_somebody_emptied_while_their_refold_waits_is_filled_all_the_same(scoring):
    await scoring.ingest([touchpoint(0, number=1, user_id="u")])
    await scoring.corrections.correct_touchpoints("default", "u", "exclude", ["m1"], Author("ada"))
    await scoring.versions.publish(version(2, 1), "ada", 500)
    while await scoring.publishing.fill_shadow():
        pass
    await scoring.ingest([touchpoint(HOUR, number=2, user_id="u")])
    await scoring.run_jobs()
    await finish(scoring)
    await equal(scoring, version(2, 1))
