"""What to offer next, and where the catalogue has gaps."""

import pytest
import yaml

from libs.common.db.connection import Session
from libs.common.errors import NotFound
from services.orchestrator.handlers.recommendations import RecommendationService
from tests.support.scoring import Scoring
from tests.support.touchpoints import HOUR, identify, touchpoint


@pytest.fixture
async def catalogue(orchestrator):
    session = Session(orchestrator.database, "test-catalogue")
    yield RecommendationService(session, orchestrator.playbook, orchestrator.clock)
    await session.close()


async def make(database, *calls):
    """Somebody who did something."""
    scoring = Scoring(database)
    await scoring.ingest([identify(0, traits={"email": "ada@x.test"}), *calls])
    await scoring.close()


QUOTE = touchpoint(2 * HOUR, "Quote Requested", user_id="u")


READ = touchpoint(HOUR, "Content Downloaded", user_id="u")
ANONYMOUS = touchpoint(2 * HOUR, "Quote Requested", anonymous_id="device")


@pytest.mark.parametrize(
    ("calls", "who", "trial", "case_study"),
    [
        ((), "u", False, False),
        ((READ,), "u", False, False),
        ((ANONYMOUS,), "device", True, False),
        ((QUOTE,), "u", True, True),
    ],
)
@pytest.mark.capability(47, 48)
async def test_trials_wait_for_validation_and_proofs_for_qualified(
    orchestrator, catalogue, database, calls, who, trial, case_study
):
    """Both sides of each boundary: who asks for a quote is at validation, and qualified once it is known who asks."""
    await make(database, *calls)
    for kind, offered in (("trial", trial), ("case_study", case_study)):
        item = {"content": f"my-{kind}".replace("_", "-"), "type": kind, "title": "T", "url": "/t"}
        await orchestrator.definitions.define(
            "default", "content", yaml.safe_dump(item), "test", "t.yaml"
        )
        found = await catalogue.recommend("default", who, "phone", (kind,), None, show=False)
        assert (found.content == item["content"]) is offered, found.reasons
        if not offered:
            assert any("too early" in reason for reason in found.reasons)


@pytest.mark.capability(2)
async def test_the_same_question_has_the_same_answer_until_it_was_shown(
    orchestrator, catalogue, database
):
    await make(database, touchpoint(HOUR, "Content Downloaded", user_id="u"))
    answers = [
        await catalogue.recommend("default", "ada@x.test", "onsite", (), None, show=False)
        for _ in range(3)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].content == "lamp-guide"
    seen = []
    while (
        found := await catalogue.recommend("default", "u", "onsite", (), None, show=True)
    ).content:
        seen.append(found.content)
    assert len(seen) == len(set(seen)) > 1
    assert any("seen" in reason for reason in found.reasons)
    again = await catalogue.recommend("default", "u", "onsite", (), "lamp-guide", show=False)
    assert (again.content, again.reasons[-1]) == ("lamp-guide", "lamp-guide: the fallback")
    with pytest.raises(NotFound):
        await catalogue.recommend("default", "nobody", "onsite", (), None, show=False)
    with pytest.raises(NotFound):
        await catalogue.recommend("other", "u", "onsite", (), None, show=False)


@pytest.mark.capability(49, 50)
async def test_gaps_are_told_where_people_are_stuck(orchestrator, catalogue, database):
    await make(database, touchpoint(HOUR, "Order Completed", user_id="u"))
    found = await catalogue.coverage("default", "engagement")
    people = {(cell.stage, cell.level): cell.contacts for cell in found.cells}
    assert people["customer", "most_aware"] == 1
    assert sum(people.values()) == 1
    assert found.empty == 0
    await orchestrator.definitions.delete("default", "content", "care")
    for name in ("repair-story", "what-buyers-say"):
        await orchestrator.definitions.delete("default", "content", name)
    found = await catalogue.coverage("default", "engagement")
    assert found.empty == 2
    worst = [(cell.stage, cell.level, cell.contents, cell.contacts) for cell in found.cells[:2]]
    assert worst == [("customer", "most_aware", 0, 1)] * 2
    assert found.questions[0].question == "Did it keep its promise?"
    assert (found.questions[0].contents, found.questions[0].contacts) == ([], 1)
    with pytest.raises(NotFound, match="no cycle"):
        await catalogue.coverage("default", "nothing")
