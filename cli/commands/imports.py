"""`perigee import`: a file of touchpoints, checked first, resumable.

The same file twice adds nothing.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.terminal import Json, current_environment, one_line_errors


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
    """Import touchpoints. Rejected rows go to FILE.rejects.ndjson with line and reason."""
    from cli.file_import import FileImport

    with one_line_errors():
        upload = FileImport(current_environment(), file, source, mapping, live=live)
        result = upload.dry_run() if dry_run else upload.run()
    if as_json:
        typer.echo(json.dumps(result))
    elif dry_run:
        _print_dry_run(result)
    else:
        _print_result(result, file)


def _print_dry_run(result: dict[str, Any]) -> None:
    typer.echo(
        f"{result['good']:,} rows are touchpoints, {result['bad']:,} are not; nothing was sent"
    )
    for reject in result["first"]:
        typer.echo(f"  line {reject['line']}: {reject['reason']}: {reject['error']}")


def _print_result(result: dict[str, Any], file: Path) -> None:
    done = (
        "imported before, in the same way: nothing was sent now. Then it was"
        if result["before"]
        else "imported"
    )
    typer.echo(f"{done} {result['accepted']:,}, rejected {result['rejected']:,}")
    if result["rejected"]:
        typer.echo(f"the rejected rows, with line and reason: {file}.rejects.ndjson")
