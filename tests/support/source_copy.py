"""The sources alone, as a machine without a C compiler would have them."""

import shutil
from pathlib import Path

from cli.home import PROJECT

_UNWANTED = shutil.ignore_patterns("*.so", "__pycache__", "node_modules")


def copy_sources(to: Path) -> None:
    """Copy what tests need of the project, without what is compiled."""
    for name in ("services", "libs", "examples", "tests", "cli", "cycles"):
        shutil.copytree(PROJECT / name, to / name, ignore=_UNWANTED)
    shutil.copy(PROJECT / "pyproject.toml", to)
