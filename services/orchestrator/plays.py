"""The plays of a folder."""

from pathlib import Path

from libs.common.durations import duration
from libs.common.errors import ConfigurationError
from services.orchestrator.domain.play import Play, parse


def read_plays(folder: Path, max_age: str = "") -> list[Play]:
    """Read every `*.yaml` of the folder; `max_age` overrides that of the files.

    Raises ConfigurationError naming the file and the place in it.
    """
    plays = [parse(path.read_text(encoding="utf-8"), str(path)) for path in sorted(folder.glob("*.yaml"))]
    names = [play.play for play in plays]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{folder}: two plays have one name: {names}")
    if not max_age:
        return plays
    try:
        return [play.model_copy(update={"max_age": duration(max_age)}) for play in plays]
    except ValueError as error:
        raise ConfigurationError(f"PERIGEE_MAX_AGE: {error}") from None
