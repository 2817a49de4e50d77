"""The cycles of a folder, compiled."""

from pathlib import Path

from libs.common.durations import duration
from libs.common.errors import ConfigurationError
from services.scoring import compiled
from services.scoring.domain.cycle import Cycle, cycle_of
from services.scoring.domain.spec import parse


def read_cycles(folder: Path, reaction_window: str = "") -> list[Cycle]:
    """Read and compile every `*.yaml` of the folder; `reaction_window` overrides that of the files.

    Raises ConfigurationError naming the file and the place in it.
    """
    compiled.how()  # a stale compiled fold is refused before it runs
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ConfigurationError(f"no cycle (*.yaml) in {folder.resolve()}: set PERIGEE_CYCLES")
    cycles = []
    for path in paths:
        spec = parse(path.read_text(encoding="utf-8"), str(path))
        if reaction_window:
            try:
                spec = spec.model_copy(update={"reaction_window": duration(reaction_window)})
            except ValueError as error:
                raise ConfigurationError(f"PERIGEE_REACTION_WINDOW: {error}") from None
        cycles.append(cycle_of(spec))
    names = [cycle.engine.name for cycle in cycles]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{folder}: two cycles have one name: {names}")
    return cycles
