"""Drop-off audiences: dropped stages, counts for stage pairs, and safe export rows."""

import csv
import io
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages import StageMove
from services.orchestrator.domain.dropoff_audience import (
    count_pairs,
    dropped_stage,
    escape_formula,
    export_row,
    regained_stages,
)
from tests.unit.orchestrator.builders import VOCABULARIES, contact_facts, stage_change

RINGS = VOCABULARIES.cycles["engagement"].rings


@pytest.mark.parametrize(
    ("fields", "dropped", "regained"),
    [
        ({"stage": StageMove("prospect", "reader")}, "prospect", ["visitor", "reader"]),
        (
            {"stage": StageMove("prospect", "prospect"), "direction": "dormancy", "dormant": True},
            "prospect",
            [],
        ),
        (
            {"stage": StageMove("prospect", "reader"), "reason": "corrected"},
            None,
            ["visitor", "reader"],
        ),
        (
            {"stage": StageMove("reader", "lead"), "direction": "advance"},
            None,
            ["visitor", "reader", "lead"],
        ),
        ({"stage": StageMove("lead", "gone")}, "lead", []),
    ],
)
def test_stage_change_drops_and_regains_stages(fields, dropped, regained):
    event = stage_change(**fields)

    assert dropped_stage(event) == dropped
    assert sorted(regained_stages(event, RINGS), key=RINGS.get) == regained


def test_every_stage_pair_is_counted():
    counts = {
        (pair.fell_from, pair.never_reached): pair.contacts
        for pair in count_pairs([(["lead"], 3), (["lead", "customer"], 2)], RINGS)
    }

    assert len(counts) == 21
    assert counts["lead", "customer"] == 3
    assert counts["lead", "member"] == 5
    assert counts["customer", "member"] == 2
    assert counts["reader", "lead"] == 0
    assert ("customer", "lead") not in counts


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_escaped_cells_are_no_formulas_and_reversible(cells):
    text = io.StringIO()
    csv.writer(text).writerow([escape_formula(cell) for cell in cells])

    (exported,) = csv.reader(io.StringIO(text.getvalue(), newline=""))

    for cell, original in zip(exported, cells, strict=True):
        assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n", "\0")
        assert cell.removeprefix("'") == original.removeprefix("'") or cell == original


def test_exported_address_is_hashed_in_lower_case():
    row = export_row(
        contact_facts(traits={"email": " Ada@X.test "}, user_id="=cmd()"), "lead", "2026-01-01"
    )

    assert row == ["c", "'=cmd()", sha256(b"ada@x.test").hexdigest(), "lead", "2026-01-01"]
