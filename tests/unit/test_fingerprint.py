"""The fold of the storefront has one fingerprint, compiled or not: an optimisation that changes a byte is found here."""

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from cli.home import PROJECT
from libs.common.compilation import PUBLISHER_MODULES, CompiledModules
from libs.common.errors import ConfigurationError
from services.scoring.compilation import FOLD_MODULES
from tests.support.fingerprint import fingerprint
from tests.support.source_copy import copy_sources

FINGERPRINT = "114d2e746a10c1c8"


def test_the_fold_of_the_storefront():
    assert fingerprint() == FINGERPRINT


def test_the_uncompiled_twin_has_the_same_fingerprint(tmp_path):
    """Run the sources alone, as a machine without a compiler would."""
    copy_sources(tmp_path)
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.support.fingerprint"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    path, found = outcome.stdout.split()
    assert path.endswith("fold.py")
    assert found == FINGERPRINT


@pytest.mark.parametrize("part", [FOLD_MODULES, PUBLISHER_MODULES], ids=lambda part: part.name)
def test_what_is_compiled_is_of_its_source(part):
    assert part.mode() in ("compiled", "uncompiled")
    assert all((PROJECT / source).exists() for source in part.sources)


def test_what_is_compiled_of_another_source_is_refused(tmp_path):
    part = CompiledModules("fold", ("fold", "state"), tmp_path)
    for source in part.sources:
        (tmp_path / source).write_text("as it was")
    assert part.mode() == "uncompiled"
    (tmp_path / "fold.cpython-31.so").touch()
    assert part.mode() == "uncompiled"  # another interpreter's
    for source in part.sources:
        (tmp_path / source).with_suffix(EXTENSION_SUFFIXES[0]).touch()
    with pytest.raises(ConfigurationError, match="make setup"):
        part.mode()
    part.record.write_text(part.source_hash())
    assert part.mode() == "compiled"
    (tmp_path / "state.py").with_suffix(EXTENSION_SUFFIXES[0]).unlink()
    with pytest.raises(ConfigurationError, match="make setup"):
        part.mode()
    (tmp_path / "state.py").write_text("edited")
    with pytest.raises(ConfigurationError, match="make setup"):
        part.mode()
