"""Identity resolution on a real PostgreSQL: server links, merges, unmerges, junk, limits."""

import pytest

from libs.common.errors import Conflict, NotFound
from services.scoring.domain.identity import MAX_LINKS
from services.scoring.handlers import touchpoint_storage
from tests.support.scoring import assert_replay_equal, contact_ids
from tests.support.touchpoints import DAY, HOUR, identify, touchpoint


def server(at, number, user_id=None, **fields):
    return touchpoint(
        at, "Content Downloaded", number=number, user_id=user_id, trust="server", **fields
    )


@pytest.mark.capability(37)
async def test_devices_with_one_login_become_one_contact(scoring):
    """Phone, laptop and tablet with one login become one contact, past touchpoints included."""
    for number, device in enumerate(("phone", "laptop", "tablet")):
        await scoring.ingest(
            [touchpoint(number * HOUR, number=number, anonymous_id=device)], partition=number % 3
        )
    for number, device in enumerate(("phone", "laptop", "tablet")):
        await scoring.ingest([identify(DAY + number * HOUR, "u", device)], partition=number % 3)

    await scoring.run_jobs()

    assert len(set((await contact_ids(scoring)).values())) == 1

    rows = await scoring.fetch(
        "SELECT value FROM scoring.contact_identifiers WHERE type = 'anonymous_id'"
    )

    assert {r[0] for r in rows} == {"phone", "laptop", "tablet"}

    await assert_replay_equal(scoring)


async def test_server_links_identifiers_and_browser_does_not(scoring):
    await scoring.ingest([server(0, 0, "u"), server(HOUR, 1, external_ids={"crm": "7"})])

    assert len(set((await contact_ids(scoring)).values())) == 2

    link_fields = {"external_ids": {"crm": "7"}, "verified_email": "u@x.test"}
    await scoring.ingest([touchpoint(2 * HOUR, number=2, user_id="u", **link_fields)])
    assert len(set((await contact_ids(scoring)).values())) == 2, (
        "a public source linked two contacts"
    )

    await scoring.ingest([server(3 * HOUR, 3, "u", **link_fields)])
    assert len(set((await contact_ids(scoring)).values())) == 1

    snapshots = [s["identifiers"] for s in await scoring.outbox("contacts") if s.get("identifiers")]
    assert snapshots[-1] == ["email:u@x.test", "external:crm:7"]

    await scoring.ingest([server(4 * HOUR, 4, verified_email="u@x.test")], partition=1)

    assert len(set((await contact_ids(scoring)).values())) == 1

    await assert_replay_equal(scoring)


async def test_alias_links_by_trust_of_source(scoring):
    await scoring.ingest(
        [touchpoint(0, number=0, user_id="old"), touchpoint(0, number=1, user_id="new")]
    )
    alias = touchpoint(HOUR, "", number=2, type="alias", user_id="new", previous_id="old")

    await scoring.ingest([alias])

    assert len(set((await contact_ids(scoring)).values())) == 2

    await scoring.ingest(
        [
            touchpoint(
                2 * HOUR,
                "",
                number=3,
                type="alias",
                user_id="new",
                previous_id="old",
                trust="server",
            )
        ]
    )
    assert len(set((await contact_ids(scoring)).values())) == 1

    await scoring.ingest([touchpoint(0, number=4, anonymous_id="device")])
    await scoring.ingest(
        [touchpoint(3 * HOUR, "", number=5, type="alias", user_id="new", previous_id="device")]
    )

    assert len(set((await contact_ids(scoring)).values())) == 1

    await assert_replay_equal(scoring)


async def test_unmerge_restores_rows_byte_for_byte(scoring):
    await scoring.ingest(
        [server(0, 0, "u"), server(HOUR, 1, "u"), identify(2 * HOUR, "u", "phone")]
    )
    await scoring.ingest(
        [touchpoint(0, "Order Completed", number=2, user_id="v"), identify(HOUR, "v", "laptop")],
        partition=1,
    )
    await scoring.ingest([touchpoint(3 * HOUR, number=3, anonymous_id="laptop")], partition=1)
    before, contacts = await scoring.pure_rows(), await contact_ids(scoring)

    outcome = await scoring.merge("user_id:u", "user_id:v")

    assert len(outcome.contacts) == 1
    assert outcome.moved == 3
    assert len(set((await contact_ids(scoring)).values())) == 1

    await assert_replay_equal(scoring)
    redirects = await scoring.fetch(
        "SELECT merged_into FROM scoring.contacts WHERE merged_into IS NOT NULL"
    )
    assert [r[0] for r in redirects] == outcome.contacts

    outcome = await scoring.unmerge("u", "v")
    assert len(outcome.contacts) == 2
    assert await scoring.pure_rows() == before
    assert await contact_ids(scoring) == contacts, "a contact has another id than before"

    await assert_replay_equal(scoring)
    reasons = [c["reason"] for c in await scoring.outbox("stage-changes")]

    assert "identity_merge" in reasons
    assert "identity_unmerge" in reasons


async def test_merge_and_unmerge_leave_no_sequence_gap(scoring):
    await scoring.ingest(
        [touchpoint(0, "Order Completed", user_id="u"), touchpoint(0, user_id="v")]
    )
    for _ in range(2):
        await scoring.merge("u", "v")
        await scoring.unmerge("u", "v")
    last_changes = {}

    for change in await scoring.outbox("stage-changes"):
        before = last_changes.get(change["contact_id"])
        assert change["sequence"] == (before["sequence"] if before else 0) + 1
        assert change["stage"]["from"] == (before["stage"]["to"] if before else None)
        last_changes[change["contact_id"]] = change

    assert len(last_changes) == 2

    await assert_replay_equal(scoring)


async def test_unmerge_names_the_remaining_link(scoring):
    await scoring.ingest(
        [
            server(0, 0, "u", external_ids={"crm": "7"}),
            server(HOUR, 1, "v", external_ids={"crm": "7"}),
        ]
    )

    with pytest.raises(Conflict, match="through external:crm:7"):
        await scoring.unmerge("user_id:u", "user_id:v")

    await scoring.unmerge("user_id:v", "external:crm:7")
    assert len(set((await contact_ids(scoring)).values())) == 2

    await scoring.ingest([server(2 * HOUR, 2, "v", external_ids={"crm": "7"})])

    assert len(set((await contact_ids(scoring)).values())) == 2, (
        "a touchpoint restored a revoked link"
    )

    await assert_replay_equal(scoring)


async def test_device_is_unmerged_and_merged_back(scoring):
    await scoring.ingest(
        [touchpoint(0, number=0, anonymous_id="phone"), identify(HOUR, "u", "phone")]
    )
    await scoring.ingest([touchpoint(2 * HOUR, number=1, anonymous_id="phone")])
    before, contacts = await scoring.pure_rows(), await contact_ids(scoring)
    await scoring.unmerge("user_id:u", "anonymous_id:phone")

    after = await contact_ids(scoring)

    assert after["m0"] == after["m1"] != after[f"m{HOUR}-"]

    await assert_replay_equal(scoring)
    await scoring.merge("user_id:u", "anonymous_id:phone")

    assert await scoring.pure_rows() == before
    assert set((await contact_ids(scoring)).values()) == set(contacts.values())

    await assert_replay_equal(scoring)


async def test_unmerged_device_gets_its_contact_back(scoring):
    await scoring.ingest(
        [identify(0, "u", "phone"), touchpoint(HOUR, number=1, anonymous_id="laptop")]
    )
    laptop = (await contact_ids(scoring))["m1"]

    await scoring.ingest([identify(2 * HOUR, "u", "laptop")])

    assert (await contact_ids(scoring))["m1"] != laptop

    await scoring.unmerge("user_id:u", "anonymous_id:laptop")

    assert (await contact_ids(scoring))["m1"] == laptop

    await assert_replay_equal(scoring)


async def test_junk_identifiers_never_link(scoring):
    junk = ["null", "undefined", "Anonymous", "00000000-0000-0000-0000-000000000000"]
    for number, user_id in enumerate(junk):
        await scoring.ingest([identify(number, user_id, f"device{number}", number=number)])

    await scoring.ingest(
        [
            touchpoint(9, number=9, anonymous_id="undefined"),
            touchpoint(9, number=10, user_id="none"),
        ]
    )

    assert len(set((await contact_ids(scoring)).values())) == len(junk) + 2

    await assert_replay_equal(scoring)


async def test_identifier_over_link_limit_links_nothing(scoring):
    shared = {"verified_email": "office@x.test"}
    await scoring.ingest([server(n, n, f"u{n}", **shared) for n in range(MAX_LINKS)])

    assert len(set((await contact_ids(scoring)).values())) == 1

    await assert_replay_equal(scoring)
    await scoring.ingest([server(MAX_LINKS, MAX_LINKS, f"u{MAX_LINKS}", **shared)], partition=1)
    await scoring.run_jobs()

    assert len(set((await contact_ids(scoring)).values())) == MAX_LINKS + 1

    await assert_replay_equal(scoring)


async def test_large_reassignment_runs_from_queue(scoring, monkeypatch):
    monkeypatch.setattr(touchpoint_storage, "MOVE_BATCH", 5)
    crm = {"external_ids": {"crm": "7"}}
    await scoring.ingest(
        [
            server(0, 100, "u", **crm),
            *(touchpoint(n * HOUR, user_id="v", number=n) for n in range(11)),
        ]
    )

    await scoring.ingest(
        [server(DAY, 101, "v", **crm), touchpoint(2 * DAY, user_id="v", number=102)], partition=1
    )

    assert len(set((await contact_ids(scoring)).values())) == 2, "the stream merged a large contact"

    await scoring.run_jobs()

    assert len(set((await contact_ids(scoring)).values())) == 1

    await assert_replay_equal(scoring)


async def test_invalid_merge_references_are_refused(scoring):
    await scoring.ingest(
        [touchpoint(0, anonymous_id="a"), touchpoint(0, anonymous_id="b", number=2)]
    )

    with pytest.raises(NotFound, match="user_id:alice"):
        await scoring.merge("nobody", "a")
    with pytest.raises(Conflict, match="two devices"):
        await scoring.merge("a", "b")
    with pytest.raises(Conflict, match="twice"):
        await scoring.merge("a", "a")
