"""Cycle files: the specifications in a folder, read and compiled."""

from pathlib import Path

from libs.common.errors import ConfigurationError
from services.scoring.compilation import FOLD_MODULES
from services.scoring.domain.cycle import ActiveCycle, build_cycle
from services.scoring.domain.cycle_parser import parse_cycle_spec
from services.scoring.domain.cycle_spec import CycleSpec


def read_specs(folder: Path) -> list[tuple[CycleSpec, str]]:
    """Return (specification, text) of every `*.yaml` of the folder.

    Raises ConfigurationError naming the file and the place in it, also for a folder without cycles.
    """
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ConfigurationError(f"no cycle (*.yaml) in {folder.resolve()}: set PERIGEE_CYCLES")
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    specs = [(parse_cycle_spec(text, str(path)), text) for path, text in texts]
    names = [spec.cycle for spec, _ in specs]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{folder}: two cycles have the same name: {names}")
    return specs


def read_cycles(folder: Path) -> list[ActiveCycle]:
    """Read and compile every `*.yaml` of the folder.

    Raises ConfigurationError naming the file and the place in it.
    """
    FOLD_MODULES.mode()  # Refuses a stale compiled fold before it runs.
    return [build_cycle(spec) for spec, _ in read_specs(folder)]
