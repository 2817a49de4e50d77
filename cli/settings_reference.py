"""`docs/configuration.md`, made from the services' settings. `python -m cli.settings_reference` writes it."""

from datetime import time
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cli.home import PROJECT
from libs.common.settings import CommonSettings
from services.ingest.settings import IngestSettings
from services.orchestrator.settings import OrchestratorSettings
from services.scoring.settings import ScoringSettings

PAGE = PROJECT / "docs" / "configuration.md"
SERVICES: dict[str, type[CommonSettings]] = {
    "ingest": IngestSettings,
    "scoring": ScoringSettings,
    "orchestrator": OrchestratorSettings,
}
_HIDDEN = {"failpoint"}


def render_page() -> str:
    """Return the page, in Markdown."""
    lines = [
        "# Configuration",
        "",
        "Made by `python -m cli.settings_reference`; do not edit. Services read their environment; a name that begins with `PERIGEE_` and",
        "is no setting stops them, with the name that was probably meant. `perigee env` prints those of a running embedded",
        "instance; `make env` writes fresh secrets for compose. Cycles, plays and channel lists are files: a key that nobody",
        "knows is refused there too, with the place.",
        "",
        "## Every service",
        "",
        *_table(CommonSettings.model_fields),
    ]
    for name, settings in SERVICES.items():
        own = {
            field: info
            for field, info in settings.model_fields.items()
            if field not in CommonSettings.model_fields or field == "port"
        }
        lines += ["", f"## {name}", "", *_table(own)]
    return "\n".join(lines) + "\n"


def list_settings() -> set[str]:
    """Return the name of every setting."""
    return {str(f.validation_alias) for s in SERVICES.values() for f in s.model_fields.values()}


def _table(fields: dict[str, FieldInfo]) -> list[str]:
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in fields.items():
        if name not in _HIDDEN:
            rows.append(
                f"| `{field.validation_alias}` | {_default(field.default)} | {field.description or ''} |"
            )
    return rows


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "**has to be set**"
    if value in ("", None):
        return ""
    if isinstance(value, Path):
        return f"`{value.name}`" if value.is_absolute() else f"`{value}`"
    return f"`{value.isoformat()}`" if isinstance(value, time) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(render_page())
