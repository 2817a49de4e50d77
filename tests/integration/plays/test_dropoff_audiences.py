"""Drop-off audiences: contacts that fell back; live, exportable, left on return."""

import csv
import io

import msgspec
import pytest

from libs.common.db.connection import Session
from libs.common.errors import NotFound
from libs.common.messages import Cause, StageChange, StageMove
from services.orchestrator.handlers.dropoff_audiences import DropoffAudienceService
from tests.integration.plays.contacts import make_contacts, signal_message
from tests.support.touchpoints import DAY, START

NOW = START + 2 * DAY


@pytest.fixture
async def audiences(orchestrator):
    session = Session(orchestrator.database, "test-falls")
    yield DropoffAudienceService(session, orchestrator.play_registry)
    await session.close()


def move(contact, number, before, after, direction, **more):
    change = StageChange(
        id=f"{contact}-{number}",
        workspace="default",
        contact_id=contact,
        cycle="engagement",
        cycle_version="1",
        sequence=number,
        occurred_at=NOW + number,
        direction=direction,
        stage=StageMove(before, after),
        axes={},
        instance="i",
        reason="time",
        cause=Cause("time", NOW),
        values={},
        **{"dormant": False, **more},
    )
    return msgspec.json.encode(change)


@pytest.mark.capability(46)
async def test_contact_is_in_audience_until_return(orchestrator, audiences):
    ids = await make_contacts(orchestrator, ["ada", "bob", "eve"])
    ada, bob, eve = (ids[name] for name in ("ada", "bob", "eve"))
    await orchestrator.consume(
        [
            move(ada, 1, "lead", "reader", "regression"),
            move(bob, 1, "customer", "lead", "regression"),
            move(bob, 2, "lead", "lead", "dormancy", dormant=True),
            move(eve, 1, "lead", "visitor", "regression"),
        ],
        "stage-changes",
    )

    async def count(fell_from, never_reached):
        return next(
            p.contacts
            for p in await audiences.list_pairs("default", "engagement")
            if (p.fell_from, p.never_reached) == (fell_from, never_reached)
        )

    assert await count("lead", "customer") == 2
    assert await count("customer", "member") == 1
    assert await count("lead", "member") == 3
    assert await audiences.list_pairs("other", "engagement") != []
    assert not any(p.contacts for p in await audiences.list_pairs("other", "engagement"))
    await orchestrator.consume([signal_message(eve, "consent_withdrawn", NOW + 9, 1)])
    text = "".join(
        [part async for part in audiences.export_csv("default", "engagement", ("lead", "customer"))]
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["user_id"], row["stage"]) for row in rows] == [("ada", "lead")], (
        "a contact without marketing consent was exported"
    )
    assert "x.test" not in text
    await orchestrator.consume([move(ada, 3, "reader", "prospect", "skip")], "stage-changes")
    assert await count("lead", "customer") == 1
    with pytest.raises(NotFound, match="no stage 'king'"):
        await audiences.check_stages("engagement", ("king", "lead"))
    with pytest.raises(NotFound, match="no cycle"):
        await audiences.list_pairs("default", "nothing")
