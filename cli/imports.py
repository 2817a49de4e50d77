"""`perigee import`: a file of touchpoints, checked first, resumable, the same twice adds nothing."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import yaml
from rich.progress import Progress as Bar

from cli.terminal import Json, environment, one_line_errors, progress, workspace
from libs.common.clock import SystemClock
from libs.common.db.connection import Session
from libs.common.errors import ConfigurationError
from libs.common.kafka.publisher import Publisher
from libs.common.settings import load
from services.ingest.adapters.files import Said, rejects_of
from services.ingest.domain.mapping import Template
from services.ingest.handlers.imports import Imports
from services.ingest.settings import IngestSettings


def import_file(
    file: Annotated[Path, typer.Argument(help="A .csv, .ndjson or .jsonl file, or a .gz of one.")],
    source: Annotated[str, typer.Option(help="The source that it is imported into.")],
    mapping: Annotated[Path | None, typer.Option(help="A call in YAML with {column: NAME} for cells.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, send nothing.")] = False,
    live: Annotated[bool, typer.Option("--live", help="As if it happened now: not as history.")] = False,
    as_json: Json = False,
) -> None:
    """Import touchpoints. Rows that are none go to FILE.rejects.ndjson with line and reason."""
    with one_line_errors():
        template = None if mapping is None else _template(mapping)
        size = file.stat().st_size if file.exists() else 0
        with Bar(console=progress, transient=True) as bar:
            task = bar.add_task("checking" if dry_run else "importing", total=size)

            def said(read: int) -> None:
                bar.update(task, completed=read)

            told = asyncio.run(
                _work(lambda desk: _done(desk, file, source, template, said, dry_run=dry_run, live=live))
            )
    if as_json:
        typer.echo(json.dumps(told))
    else:
        _print(told, file)


async def _done(
    desk: Imports, file: Path, source: str, template: Template | None, said: Said, *, dry_run: bool, live: bool
) -> dict[str, Any]:
    if dry_run:
        good, bad, first = await desk.check(file, (workspace(), source), template, said)
        return {"good": good, "bad": bad, "first": msgspec.to_builtins(first)}
    found: dict[str, Any] = msgspec.to_builtins(
        await desk.run(file, (workspace(), source), template, said, historical=not live)
    )
    return found


def _template(path: Path) -> Template:
    try:
        return Template(yaml.safe_load(path.read_text()), path.name)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path.name}: {error}") from None


def _print(told: dict[str, Any], file: Path) -> None:
    if "good" in told:
        typer.echo(f"{told['good']:,} rows are touchpoints, {told['bad']:,} are not; nothing was sent")
        for one in told["first"]:
            typer.echo(f"  line {one['line']}: {one['reason']}: {one['error']}")
        return
    done = "imported before, in the same way: nothing was sent now. Then it was" if told["before"] else "imported"
    typer.echo(f"{done} {told['accepted']:,}, rejected {told['rejected']:,}")
    if told["rejected"]:
        typer.echo(f"the rejected rows, with line and reason: {rejects_of(file)}")


async def _work(work: Callable[[Imports], Any]) -> Any:
    found = environment()
    session, publisher = Session(found["DATABASE_URL"], "perigee-import"), Publisher(found["KAFKA_BOOTSTRAP_SERVERS"])
    try:
        return await work(Imports(session, publisher, SystemClock(), load(IngestSettings, **found).rules()))
    finally:
        await publisher.close()
        await session.close()
