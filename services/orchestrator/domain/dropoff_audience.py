"""Drop-off audiences: contacts that fell from stage A and did not reach stage B. Pure.

A contact falls from a stage when an ordinary stage change moves it to an outer ring or to dormancy,
and regains the stage when any change moves it as far in again. A contact that fell from A and never
from B did not reach B.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from libs.common.messages import StageChange
from libs.common.messages.stage_change import ORDINARY_REASONS
from services.orchestrator.domain.ad_audience import hash_email
from services.orchestrator.domain.contact_facts import ContactFacts

COLUMNS = ("contact_id", "user_id", "email_sha256", "stage", "fell_at")


class DropoffPair(msgspec.Struct, frozen=True):
    """Number of contacts that fell from one stage without having reached another."""

    fell_from: str
    never_reached: str
    contacts: int


def dropped_stage(change: StageChange) -> str | None:
    """Return the stage from which a contact fell by a stage change, or None."""
    if change.reason not in ORDINARY_REASONS or change.direction not in ("regression", "dormancy"):
        return None
    return change.stage.from_


def regained_stages(change: StageChange, rings: Mapping[str, int]) -> list[str]:
    """Return the stages that a contact is at, or beyond, after a stage change."""
    if change.dormant or change.stage.to not in rings:
        return []
    return [stage for stage, ring in rings.items() if ring <= rings[change.stage.to]]


def count_pairs(
    groups: Iterable[tuple[Collection[str], int]], rings: Mapping[str, int]
) -> list[DropoffPair]:
    """Return every pair of a cycle's stages by number of contacts, then from outer to inner rings.

    `groups` are (stages from which contacts fell, number of contacts).
    """
    counts = {(a, b): 0 for a in rings for b in rings if rings[b] > rings[a]}
    for stages, contacts in groups:
        for a, b in counts:
            if a in stages and b not in stages:
                counts[a, b] += contacts
    pairs = [DropoffPair(a, b, count) for (a, b), count in counts.items()]
    return sorted(
        pairs, key=lambda pair: (-pair.contacts, rings[pair.fell_from], rings[pair.never_reached])
    )


def export_row(facts: ContactFacts, stage: str, fell_at: str) -> Sequence[str]:
    """Return a contact's row of an export; a user id that is an e-mail address is omitted."""
    user_id = "" if facts.user_id is None or "@" in facts.user_id else facts.user_id
    cells = (facts.contact_id, user_id, hash_email(facts.email), stage, fell_at)
    return [escape_formula(cell) for cell in cells]


def escape_formula(cell: str) -> str:
    """Return a cell that spreadsheets do not evaluate as a formula (OWASP ASVS 1.2.10)."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n", "\0") else cell
