"""The fold of the storefront has one fingerprint, compiled or not: an optimisation that changes a byte is found here."""

import importlib.util
import sys
from datetime import UTC, datetime
from hashlib import sha256

from examples.storefront.mapping import calls
from services.ingest.domain.normalise import Received, normalise
from services.ingest.domain.source import Source
from services.scoring.compiled import DOMAIN, MODULES, how
from tests.support.touchpoints import shipped

FINGERPRINT = "5b08fb81352ba7ba"
ANCHOR = datetime(2026, 11, 22, tzinfo=UTC)


def occurrences(cycle):
    source = Source("default", "storefront")
    for call in calls(ANCHOR):
        touchpoint = normalise(call, Received(source, 1_795_000_000_000_000, "x"))
        yield touchpoint.user_id or touchpoint.anonymous_id, cycle.classifier.occurrence(touchpoint)


def fingerprint(cycle, apply):
    folds = {}
    for who, occurrence in occurrences(cycle):
        state, moves = folds.setdefault(who, (cycle.engine.fresh(), []))
        apply(cycle.engine, state, occurrence, moves)
    digest = sha256()
    for who in sorted(folds):
        digest.update(folds[who][0].encode())
        for move in folds[who][1]:
            digest.update(move.encode())
    return digest.hexdigest()[:16]


def test_the_fold_of_the_storefront():
    from services.scoring.domain.fold import apply

    assert fingerprint(shipped(), apply) == FINGERPRINT


def test_the_uncompiled_twin_has_the_same_fingerprint(monkeypatch):
    """Load the sources beside the compiled modules, as a machine without a compiler would run them."""
    for name in [
        n for n in sys.modules if n.startswith("services.scoring") or n.startswith("tests.support.touchpoints")
    ]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("decay", "state", "conditions", "engine", "fold"):
        full = f"services.scoring.domain.{name}"
        spec = importlib.util.spec_from_file_location(full, DOMAIN / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, full, module)
        if name == "engine":
            pass
        if name == "fold":
            pass
        spec.loader.exec_module(module)
    from services.scoring.domain.fold import apply
    from tests.support.touchpoints import shipped as twin

    assert apply.__code__.co_filename.endswith("fold.py")
    assert fingerprint(twin(), apply) == FINGERPRINT


def test_a_compiled_fold_is_that_of_its_source():
    assert how() in ("compiled", "uncompiled")
    assert all((DOMAIN / f"{name}.py").exists() for name in MODULES)
