"""The fold of the storefront has one fingerprint, compiled or not: an optimisation that changes a byte is found here."""

import os
import shutil
import subprocess
import sys

import pytest

from cli.home import PROJECT
from libs.common.errors import ConfigurationError
from services.scoring import compiled
from tests.support.fingerprint import fingerprint

FINGERPRINT = "114d2e746a10c1c8"


def test_the_fold_of_the_storefront():
    assert fingerprint() == FINGERPRINT


def test_the_uncompiled_twin_has_the_same_fingerprint(tmp_path):
    """Run the sources alone, as a machine without a compiler would."""
    for name in ("services", "libs", "examples", "tests", "cli", "cycles"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.support.fingerprint"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    path, found = outcome.stdout.split()
    assert path.endswith("fold.py")
    assert found == FINGERPRINT


def test_a_compiled_fold_is_that_of_its_source():
    assert compiled.how() in ("compiled", "uncompiled")
    assert all((compiled.DOMAIN / f"{name}.py").exists() for name in compiled.MODULES)


def test_a_stale_compiled_fold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "DOMAIN", tmp_path)
    monkeypatch.setattr(compiled, "RECORD", tmp_path / "compiled_from.txt")
    for name in compiled.MODULES:
        (tmp_path / f"{name}.py").write_text(name)
    assert compiled.how() == "uncompiled"
    (tmp_path / "fold.cpython-311.so").touch()
    with pytest.raises(ConfigurationError, match="make setup"):
        compiled.how()
    (tmp_path / "compiled_from.txt").write_text(compiled.source_hash())
    assert compiled.how() == "compiled"
    (tmp_path / "fold.py").write_text("edited")
    with pytest.raises(ConfigurationError, match="make setup"):
        compiled.how()
