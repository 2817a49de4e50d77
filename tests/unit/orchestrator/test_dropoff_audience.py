"""Who fell from where, and what an export may hold."""

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
from tests.unit.orchestrator.vocabulary import WORDS, change, contact

RINGS = WORDS.cycles["engagement"].rings


@pytest.mark.parametrize(
    ("fields", "fell", "back"),
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
def test_what_is_a_fall_and_what_a_return(fields, fell, back):
    found = change(**fields)
    assert dropped_stage(found) == fell
    assert sorted(regained_stages(found, RINGS), key=RINGS.get) == back


def test_every_pair_is_counted():
    found = {
        (p.fell_from, p.never_reached): p.contacts
        for p in count_pairs([(["lead"], 3), (["lead", "customer"], 2)], RINGS)
    }
    assert len(found) == 21
    assert found["lead", "customer"] == 3
    assert found["lead", "member"] == 5
    assert found["customer", "member"] == 2
    assert found["reader", "lead"] == 0
    assert ("customer", "lead") not in found


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_no_cell_is_a_formula_and_every_cell_comes_back(cells):
    text = io.StringIO()
    csv.writer(text).writerow([escape_formula(cell) for cell in cells])
    (found,) = csv.reader(io.StringIO(text.getvalue(), newline=""))
    for cell, given_cell in zip(found, cells, strict=True):
        assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n", "\0")
        assert cell.removeprefix("'") == given_cell.removeprefix("'") or cell == given_cell


def test_an_address_is_hashed_as_advertisers_want_it():
    found = export_row(
        contact(traits={"email": " Ada@X.test "}, user_id="=cmd()"), "lead", "2026-01-01"
    )
    assert found == ["c", "'=cmd()", sha256(b"ada@x.test").hexdigest(), "lead", "2026-01-01"]
