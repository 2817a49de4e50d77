"""`perigee cycle`: versions of engagement cycles, from a file to live and back."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, current_author
from cli.terminal import Json, current_environment, one_line_errors, progress
from libs.common.api_keys import DEFAULT_WORKSPACE

app = typer.Typer(help="Versions of engagement cycles.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="A cycle as YAML.", exists=True, dir_okay=False)]
Detach = Annotated[
    bool, typer.Option("--detach", help="Do not wait until the version is live and published.")
]
POLL_SECONDS = 0.3
_PHASES = ("filled", "told", "swept")
"""Phases of a rollout, as the API names them."""


@app.command("validate")
def validate(file: File) -> None:
    """Check a file: every fault with its place, and advice on doubtful places."""
    with one_line_errors():
        spec = _validate(file)
    typer.echo(
        f"{file}: cycle {spec['cycle']}, version {spec['version']}: {spec['signals']} signals, "
        f"{spec['axes']} axes, {spec['stages']} stages; valid"
    )
    for advice in spec["advice"]:
        typer.echo(f"  advice: {advice}")


@app.command("diff")
def diff(
    file: File,
    version: Annotated[str | None, typer.Option(help="Instead of the live version.")] = None,
) -> None:
    """Show the differences between a file and the live version."""
    with one_line_errors():
        body = {**_document(file), "version": version}
        differences = _call("POST", "/diff", json=body)["differences"]
    typer.echo("\n".join(differences) if differences else "no difference")


@app.command("backtest")
def backtest(file: File, as_json: Json = False) -> None:
    """Fold the stored history under a file and the live version.

    Show the contacts that would move. Writes nothing.
    """
    with one_line_errors(), progress.status("folding the stored history twice"):
        result = _call("POST", "/backtest", timeout=None, json=_document(file))
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _print_backtest(result, Console())


@app.command("publish")
def publish(
    file: File,
    per_second: Annotated[
        int, typer.Option(help="Contacts a second whose net change is published.")
    ] = 500,
    detach: Detach = False,
) -> None:
    """Make a file the live version: filled beside the current one, then live, then published."""
    with one_line_errors():
        spec = _validate(file)
        body = {
            "text": file.read_text(encoding="utf-8"),
            "author": current_author(),
            "per_second": per_second,
        }
        fold = _call("POST", "/publish", json=body)["fold"]
        if not detach:
            _wait_for_rollout(spec["cycle"])
    typer.echo(f"{fold} is {'on its way' if detach else 'live'}; 'perigee cycle status' shows it")


@app.command("draft")
def draft(file: File) -> None:
    """Keep a file as a draft."""
    with one_line_errors():
        _validate(file)
        body = {"text": file.read_text(encoding="utf-8"), "author": current_author()}
        fold = _call("POST", "/draft", json=body)["fold"]
    typer.echo(f"{fold} is kept as a draft")


@app.command("rollback")
def rollback(
    cycle: Annotated[str, typer.Argument(help="The cycle's name.")], detach: Detach = False
) -> None:
    """Give up a version that is being filled, else publish the version that was live before."""
    with one_line_errors():
        fold = _call("POST", f"/{cycle}/rollback", json={"author": current_author()})["fold"]
        if not detach:
            _wait_for_rollout(cycle)
    typer.echo(f"{fold} {'becomes' if detach else 'is'} live")


@app.command("status")
def status(as_json: Json = False) -> None:
    """Show every version, and the progress of a rollout."""
    with one_line_errors():
        versions = _call("GET", "")
    if as_json:
        typer.echo(json.dumps(versions))
        return
    table = Table("cycle", "version", "status", "by", "since", "on its way")
    for version in versions:
        phases = [
            f"{phase} {version[phase][0]} of {version[phase][1]}"
            for phase in _PHASES
            if version[phase]
        ]
        since = (version["live_at"] or version["created_at"])[:19].replace("T", " ")
        table.add_row(
            version["cycle"],
            version["version"],
            version["status"],
            version["author"],
            since,
            ", ".join(phases),
        )
    Console().print(table)


def _validate(file: Path) -> Any:
    return _call("POST", "/validate", json=_document(file))


def _document(file: Path) -> dict[str, str]:
    return {"text": file.read_text(encoding="utf-8"), "where": str(file)}


def _wait_for_rollout(cycle: str) -> None:
    """Show the progress of a rollout until its end."""
    from rich.progress import Progress

    with Progress(console=progress) as bar:
        tasks = {phase: bar.add_task(phase, total=None) for phase in _PHASES}
        while True:
            versions = [version for version in _call("GET", "") if version["cycle"] == cycle]
            phases = {
                phase: next((version[phase] for version in versions if version[phase]), None)
                for phase in _PHASES
            }
            for phase, counts in phases.items():
                if counts:
                    bar.update(tasks[phase], completed=counts[0], total=counts[1])
                elif bar.tasks[tasks[phase]].total:
                    bar.update(tasks[phase], completed=bar.tasks[tasks[phase]].total)
            if not any(phases.values()) and not any(
                version["status"] == "shadow" for version in versions
            ):
                return
            time.sleep(POLL_SECONDS)


def _print_backtest(result: Any, console: Console) -> None:
    moved = sum(move["people"] for move in result["moved"])
    console.print(
        f"{result['touchpoints']} touchpoints of {result['people']} contacts: "
        f"{moved} would be in another stage"
    )
    table = Table("now", "then", "contacts", "for example")
    for move in result["moved"]:
        table.add_row(move["now"], move["then"], str(move["people"]), ", ".join(move["samples"]))
    console.print(table)
    console.print(
        f"transitions: {result['transitions_now']} now, {result['transitions_then']} then"
    )
    table = Table("from", "to", "now", "then", "gained or lost")
    for step in result["steps"]:
        table.add_row(
            step["before"],
            step["after"],
            str(step["now"]),
            str(step["then"]),
            f"{step['then'] - step['now']:+d}",
        )
    console.print(table)


def _call(method: str, path: str, **options: Any) -> Any:
    return call_api(
        current_environment(),
        method,
        f"/admin/v1/cycles{path}",
        workspace=DEFAULT_WORKSPACE,
        **options,
    )
