"""What ships, read from its folders: plays and contents."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from libs.common.documents import parse_document
from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.segment import Segment

M = TypeVar("M", bound=BaseModel)


def read_plays(folder: Path) -> dict[str, str]:
    """Return the text of every play of a folder's `*.yaml`, by name. Raises ConfigurationError naming file, line and place."""
    return _read(folder, Play, "play")


def read_contents(folder: Path) -> dict[str, str]:
    """Return the text of every content of a folder's `*.yaml`, by name. Raises ConfigurationError."""
    return _read(folder, ContentItem, "content")


def read_segments(folder: Path) -> dict[str, str]:
    """Return the text of every segment of a folder's `*.yaml`, by name. Raises ConfigurationError."""
    return _read(folder, Segment, "segment")


def _read(folder: Path, model: type[M], kind: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        name: str = getattr(parse_document(model, text, str(path)), kind)
        if name in found:
            raise ConfigurationError(f"{path}: another file has a {kind} named {name!r}")
        found[name] = text
    return found


def parse_max_age(setting: str) -> int | None:
    """Return the age (µs) that overrides the plays' own. Raises ConfigurationError."""
    try:
        return parse_duration(setting) if setting else None
    except ValueError as error:
        raise ConfigurationError(f"PERIGEE_MAX_AGE: {error}") from None
