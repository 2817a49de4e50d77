"""`perigee import`: a file of touchpoints, checked first, resumable, the same twice adds nothing."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress as Bar

from cli.terminal import Json, one_line_errors, progress


def import_file(
    file: Annotated[Path, typer.Argument(help="A .csv, .ndjson or .jsonl file, or a .gz of one.")],
    source: Annotated[str, typer.Option(help="The source that it is imported into.")],
    mapping: Annotated[
        Path | None, typer.Option(help="A call in YAML with {column: NAME} for cells.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, send nothing.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="As if it happened now: not as history.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Import touchpoints. Rows that are none go to FILE.rejects.ndjson with line and reason."""
    with one_line_errors():
        from cli.file_import import import_file

        size = file.stat().st_size if file.exists() else 0
        with Bar(console=progress, transient=True) as bar:
            task = bar.add_task("checking" if dry_run else "importing", total=size)

            def said(read: int) -> None:
                bar.update(task, completed=read)

            told = asyncio.run(import_file(file, source, mapping, said, dry_run=dry_run, live=live))
    if as_json:
        typer.echo(json.dumps(told))
    else:
        _print(told, file)


def _print(told: dict[str, Any], file: Path) -> None:
    if "good" in told:
        typer.echo(
            f"{told['good']:,} rows are touchpoints, {told['bad']:,} are not; nothing was sent"
        )
        for one in told["first"]:
            typer.echo(f"  line {one['line']}: {one['reason']}: {one['error']}")
        return
    done = (
        "imported before, in the same way: nothing was sent now. Then it was"
        if told["before"]
        else "imported"
    )
    typer.echo(f"{done} {told['accepted']:,}, rejected {told['rejected']:,}")
    if told["rejected"]:
        typer.echo(f"the rejected rows, with line and reason: {file}.rejects.ndjson")
