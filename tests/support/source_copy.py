"""Copy of the sources without compiled modules, as on a machine without a C compiler."""

import shutil
from pathlib import Path

from cli.home import PROJECT

_UNWANTED = shutil.ignore_patterns("*.so", "__pycache__", "node_modules")


def copy_sources(to: Path) -> None:
    """Copy the sources that tests need, without compiled modules."""
    for name in ("services", "libs", "examples", "tests", "cli", "cycles"):
        shutil.copytree(PROJECT / name, to / name, ignore=_UNWANTED)
    shutil.copy(PROJECT / "pyproject.toml", to)
