"""Who fell from a stage without having reached a further one: the audience between every two segments of the funnel. Pure.

A contact falls from a stage when an ordinary move takes it to an outer ring or to dormancy, and returns when any move takes it as
far in again. Who fell from A and never fell from B had not reached B.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from libs.common.messages import StageChange
from libs.common.messages.stage_change import ORDINARY_REASONS
from services.orchestrator.domain.ad_audience import hash_email
from services.orchestrator.domain.contact_facts import ContactFacts

COLUMNS = ("contact_id", "user_id", "email_sha256", "stage", "fell_at")


class DropoffPair(msgspec.Struct, frozen=True):
    """How many fell from a stage without having reached another."""

    fell_from: str
    never_reached: str
    contacts: int


def dropped_stage(change: StageChange) -> str | None:
    """Return the stage that a contact fell from by a move, or None."""
    if change.reason not in ORDINARY_REASONS or change.direction not in ("regression", "dormancy"):
        return None
    return change.stage.from_


def regained_stages(change: StageChange, rings: Mapping[str, int]) -> list[str]:
    """Return the stages that a contact is back at, or beyond, after a move."""
    if change.dormant or change.stage.to not in rings:
        return []
    return [stage for stage, ring in rings.items() if ring <= rings[change.stage.to]]


def count_pairs(
    groups: Iterable[tuple[Collection[str], int]], rings: Mapping[str, int]
) -> list[DropoffPair]:
    """Return every pair of a cycle, those with most contacts first.

    `groups` are (stages that a contact fell from, how many contacts): outer before inner stages.
    """
    counts = {(a, b): 0 for a in rings for b in rings if rings[b] > rings[a]}
    for stages, contacts in groups:
        for a, b in counts:
            if a in stages and b not in stages:
                counts[a, b] += contacts
    found = [DropoffPair(a, b, count) for (a, b), count in counts.items()]
    return sorted(
        found, key=lambda pair: (-pair.contacts, rings[pair.fell_from], rings[pair.never_reached])
    )


def export_row(facts: ContactFacts, stage: str, fell_at: str) -> Sequence[str]:
    """Return a contact's line of an export."""
    user_id = (
        "" if facts.user_id is None or "@" in facts.user_id else facts.user_id
    )  # an address is nobody's
    cells = (facts.contact_id, user_id, hash_email(facts.email), stage, fell_at)
    return [escape_formula(cell) for cell in cells]


def escape_formula(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula (OWASP ASVS 1.2.10)."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n", "\0") else cell
