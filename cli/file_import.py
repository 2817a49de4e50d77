"""The work of `perigee import`: apart, since what it needs takes longer to load than most commands to run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from cli.terminal import current_environment, current_workspace
from libs.common.clock import SystemClock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError
from libs.common.kafka.publisher import Publisher
from libs.common.settings import load_settings
from services.ingest.adapters.row_files import ProgressCallback
from services.ingest.domain.call_mapping import CallMapping
from services.ingest.handlers.imports import FileImporter
from services.ingest.settings import IngestSettings


async def import_file(
    file: Path,
    source: str,
    mapping: Path | None,
    said: ProgressCallback,
    *,
    dry_run: bool,
    live: bool,
) -> dict[str, Any]:
    """Import a file into a source, or check it; return what came of it. Raises ConfigurationError, NotFound, Unavailable."""
    template = None if mapping is None else _template(mapping)
    found: dict[str, Any] = await _work(
        lambda desk: _done(desk, file, source, template, said, dry_run=dry_run, live=live)
    )
    return found


async def _done(
    desk: FileImporter,
    file: Path,
    source: str,
    template: CallMapping | None,
    said: ProgressCallback,
    *,
    dry_run: bool,
    live: bool,
) -> dict[str, Any]:
    if dry_run:
        good, bad, first = await desk.dry_run(file, (current_workspace(), source), template, said)
        return {"good": good, "bad": bad, "first": msgspec.to_builtins(first)}
    found: dict[str, Any] = msgspec.to_builtins(
        await desk.run(file, (current_workspace(), source), template, said, historical=not live)
    )
    return found


def _template(path: Path) -> CallMapping:
    try:
        return CallMapping(yaml.safe_load(path.read_text()), path.name)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path.name}: {error}") from None


async def _work(work: Callable[[FileImporter], Any]) -> Any:
    found = current_environment()
    session, publisher = (
        Session(found["DATABASE_URL"], "perigee-import"),
        Publisher(found["KAFKA_BOOTSTRAP_SERVERS"]),
    )
    try:
        return await work(
            FileImporter(
                session, publisher, SystemClock(), load_settings(IngestSettings, **found).rules()
            )
        )
    finally:
        await publisher.close()
        await session.close()
