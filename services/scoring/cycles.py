"""The cycles of a folder, compiled."""

from pathlib import Path

from libs.common.errors import ConfigurationError
from services.scoring.compiled import FOLD
from services.scoring.domain.cycle import Cycle, cycle_of
from services.scoring.domain.spec import CycleSpec, parse


def read_files(folder: Path) -> list[tuple[CycleSpec, str]]:
    """Return (specification, text) of every `*.yaml` of the folder.

    Raises ConfigurationError naming the file and the place in it.
    """
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ConfigurationError(f"no cycle (*.yaml) in {folder.resolve()}: set PERIGEE_CYCLES")
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    found = [(parse(text, str(path)), text) for path, text in texts]
    names = [spec.cycle for spec, _ in found]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{folder}: two cycles have one name: {names}")
    return found


def read_cycles(folder: Path) -> list[Cycle]:
    """Read and compile every `*.yaml` of the folder. Raises ConfigurationError naming the file and the place in it."""
    FOLD.mode()  # a stale compiled fold is refused before it runs
    return [cycle_of(spec) for spec, _ in read_files(folder)]
