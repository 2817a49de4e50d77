"""Definition files that ship with the product: plays, contents and segments."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from libs.common.documents import parse_document
from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError
from services.orchestrator.domain.content import ContentItem
from services.orchestrator.domain.play import Play
from services.orchestrator.domain.segment import Segment
from services.orchestrator.repository.definitions import DefinitionKind

M = TypeVar("M", bound=BaseModel)


def read_plays(folder: Path) -> dict[str, str]:
    """Return {name: text} of the plays in a folder's `*.yaml`.

    Raises ConfigurationError naming file, line and place.
    """
    return _read(folder, Play, "play")


def read_contents(folder: Path) -> dict[str, str]:
    """Return {name: text} of the contents in a folder's `*.yaml`. Raises ConfigurationError."""
    return _read(folder, ContentItem, "content")


def read_segments(folder: Path) -> dict[str, str]:
    """Return {name: text} of the segments in a folder's `*.yaml`. Raises ConfigurationError."""
    return _read(folder, Segment, "segment")


def read_shipped(
    plays: Path, contents: Path, segments: Path
) -> tuple[dict[str, str], dict[DefinitionKind, dict[str, str]]]:
    """Return the texts of the shipped plays, and of contents and segments by kind.

    Raises ConfigurationError.
    """
    return read_plays(plays), {
        "content": read_contents(contents),
        "segment": read_segments(segments),
    }


def _read(folder: Path, model: type[M], kind: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        name: str = getattr(parse_document(model, text, str(path)), kind)
        if name in texts:
            raise ConfigurationError(f"{path}: another file has a {kind} named {name!r}")
        texts[name] = text
    return texts


def parse_max_age(setting: str) -> int | None:
    """Return the age (µs) that overrides the plays' `max_age`, or None for an empty setting.

    Raises ConfigurationError.
    """
    try:
        return parse_duration(setting) if setting else None
    except ValueError as error:
        raise ConfigurationError(f"PERIGEE_MAX_AGE: {error}") from None
