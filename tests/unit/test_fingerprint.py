"""Fingerprint of the storefront's fold, equal for compiled and uncompiled modules."""

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

FINGERPRINT = "1e42c1a03796bc65"


def test_storefront_fold_has_known_fingerprint():
    assert fingerprint() == FINGERPRINT


def test_uncompiled_fold_has_same_fingerprint(tmp_path):
    """The copied sources run as on a machine without a compiler."""
    copy_sources(tmp_path)
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.support.fingerprint"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    path, uncompiled_fingerprint = outcome.stdout.split()

    assert path.endswith("fold.py")
    assert uncompiled_fingerprint == FINGERPRINT


@pytest.mark.parametrize(
    "modules",
    [FOLD_MODULES, PUBLISHER_MODULES],
    ids=lambda modules: modules.name,
)
def test_compiled_modules_match_their_sources(modules):
    assert modules.mode() in ("compiled", "uncompiled")
    assert all((PROJECT / source).exists() for source in modules.sources)


def test_stale_or_incomplete_compilation_is_refused(tmp_path):
    modules = CompiledModules("fold", ("fold", "state"), tmp_path)

    for source in modules.sources:
        (tmp_path / source).write_text("original")

    assert modules.mode() == "uncompiled"

    (tmp_path / "fold.cpython-31.so").touch()

    assert modules.mode() == "uncompiled"  # a module of another interpreter

    for source in modules.sources:
        (tmp_path / source).with_suffix(EXTENSION_SUFFIXES[0]).touch()

    with pytest.raises(ConfigurationError, match="make setup"):
        modules.mode()

    modules.record.write_text(modules.source_hash())

    assert modules.mode() == "compiled"

    (tmp_path / "state.py").with_suffix(EXTENSION_SUFFIXES[0]).unlink()

    with pytest.raises(ConfigurationError, match="make setup"):
        modules.mode()

    (tmp_path / "state.py").write_text("edited")

    with pytest.raises(ConfigurationError, match="make setup"):
        modules.mode()
