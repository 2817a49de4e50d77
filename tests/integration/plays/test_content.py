"""Recommended content, and the gaps of the content catalogue."""

import pytest
import yaml

from libs.common.db.connection import Session
from libs.common.errors import NotFound
from services.orchestrator.handlers.recommendations import RecommendationService
from tests.support.scoring import Scoring
from tests.support.touchpoints import HOUR, identify, touchpoint


@pytest.fixture
async def recommendations(orchestrator):
    session = Session(orchestrator.database, "test-catalogue")
    yield RecommendationService(session, orchestrator.play_registry, orchestrator.clock)
    await session.close()


async def make_contact(database, *calls):
    """Create a contact with the given touchpoints."""
    scoring = Scoring(database)
    await scoring.ingest([identify(0, traits={"email": "ada@x.test"}), *calls])
    await scoring.close()


QUOTE = touchpoint(2 * HOUR, "Quote Requested", user_id="u")


READ = touchpoint(HOUR, "Content Downloaded", user_id="u")
ANONYMOUS = touchpoint(2 * HOUR, "Quote Requested", anonymous_id="device")


@pytest.mark.parametrize(
    ("calls", "contact_reference", "trial", "case_study"),
    [
        ((), "u", False, False),
        ((READ,), "u", False, False),
        ((ANONYMOUS,), "device", True, False),
        ((QUOTE,), "u", True, True),
    ],
)
@pytest.mark.capability(47, 48)
async def test_trials_need_validation_and_case_studies_need_qualified(
    orchestrator, recommendations, database, calls, contact_reference, trial, case_study
):
    """A quote request is at validation; with a known contact it is qualified."""
    await make_contact(database, *calls)

    for kind, offered in (("trial", trial), ("case_study", case_study)):
        item = {"content": f"my-{kind}".replace("_", "-"), "type": kind, "title": "T", "url": "/t"}
        await orchestrator.definitions.define(
            "default", "content", yaml.safe_dump(item), "test", "t.yaml"
        )
        recommendation = await recommendations.recommend(
            "default", contact_reference, "phone", (kind,), None, show=False
        )
        assert (recommendation.content == item["content"]) is offered, recommendation.reasons
        if not offered:
            assert any("too early" in reason for reason in recommendation.reasons)


@pytest.mark.capability(2)
async def test_recommendation_is_stable_until_shown(orchestrator, recommendations, database):
    await make_contact(database, touchpoint(HOUR, "Content Downloaded", user_id="u"))
    repeated = [
        await recommendations.recommend("default", "ada@x.test", "onsite", (), None, show=False)
        for _ in range(3)
    ]

    assert repeated[0] == repeated[1] == repeated[2]
    assert repeated[0].content == "lamp-guide"

    shown = []
    while (
        recommendation := await recommendations.recommend(
            "default", "u", "onsite", (), None, show=True
        )
    ).content:
        shown.append(recommendation.content)
    assert len(shown) == len(set(shown)) > 1
    assert any("seen" in reason for reason in recommendation.reasons)

    fallback = await recommendations.recommend(
        "default", "u", "onsite", (), "lamp-guide", show=False
    )

    assert (fallback.content, fallback.reasons[-1]) == ("lamp-guide", "lamp-guide: the fallback")
    with pytest.raises(NotFound):
        await recommendations.recommend("default", "nobody", "onsite", (), None, show=False)
    with pytest.raises(NotFound):
        await recommendations.recommend("other", "u", "onsite", (), None, show=False)


@pytest.mark.capability(49, 50)
async def test_coverage_reports_gaps_at_stages_with_contacts(
    orchestrator, recommendations, database
):
    await make_contact(database, touchpoint(HOUR, "Order Completed", user_id="u"))
    coverage = await recommendations.coverage("default", "engagement")

    contacts_of_cell = {(cell.stage, cell.level): cell.contacts for cell in coverage.cells}

    assert contacts_of_cell["customer", "most_aware"] == 1
    assert sum(contacts_of_cell.values()) == 1
    assert coverage.empty == 0

    await orchestrator.definitions.delete("default", "content", "care")
    for name in ("repair-story", "what-buyers-say"):
        await orchestrator.definitions.delete("default", "content", name)
    coverage = await recommendations.coverage("default", "engagement")
    assert coverage.empty == 2

    worst_cells = [
        (cell.stage, cell.level, cell.contents, cell.contacts) for cell in coverage.cells[:2]
    ]

    assert worst_cells == [("customer", "most_aware", 0, 1)] * 2
    assert coverage.questions[0].question == "Did it keep its promise?"
    assert (coverage.questions[0].contents, coverage.questions[0].contacts) == ([], 1)
    with pytest.raises(NotFound, match="no cycle"):
        await recommendations.coverage("default", "nothing")
