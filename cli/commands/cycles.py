"""`perigee cycle`: versions of engagement cycles, from a file to live and back."""

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, current_author
from cli.terminal import Json, current_environment, one_line_errors, progress

app = typer.Typer(help="Versions of engagement cycles.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="A cycle as YAML.", exists=True, dir_okay=False)]


@app.command("validate")
def validate(file: File) -> None:
    """Check a file: every fault with its place, and advice on what it says but hardly means."""
    from services.scoring.domain.cycle_compiler import compile_cycle
    from services.scoring.domain.cycle_lint import lint_cycle

    with one_line_errors():
        spec = _parsed(file)
        engine = compile_cycle(spec)
    typer.echo(f"{file}: cycle {spec.cycle}, version {spec.version}: {len(engine.signals)} signals, "
               f"{len(engine.axes)} axes, {len(spec.stages)} stages; valid")  # fmt: skip
    for advice in lint_cycle(spec):
        typer.echo(f"  advice: {advice}")


@app.command("diff")
def diff(
    file: File,
    version: Annotated[str | None, typer.Option(help="Instead of the live version.")] = None,
) -> None:
    """Show where a file differs from the live version."""
    import yaml

    from services.scoring.backtest import diff_specs

    with one_line_errors():
        spec = _parsed(file)
        params = {"version": version} if version else {}
        text = call_api(
            current_environment(), "GET", f"/admin/v1/cycles/{spec.cycle}", params=params
        )["text"]
    found = diff_specs(yaml.safe_load(text), yaml.safe_load(file.read_text(encoding="utf-8")))
    typer.echo("\n".join(found) if found else "no difference")


@app.command("backtest")
def backtest(file: File, as_json: Json = False) -> None:
    """Fold the stored history under a file and the live version; say who would move. Touches nothing."""
    with one_line_errors():
        spec = _parsed(file)
        with progress.status("folding the stored history twice"):
            found = asyncio.run(_backtested(current_environment(), spec))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _print_backtest(found, Console())


@app.command("publish")
def publish(
    file: File,
    per_second: Annotated[
        int, typer.Option(help="Contacts told of their net change per second.")
    ] = 500,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait until it is live and told.")
    ] = False,
) -> None:
    """Make a file the live version: filled beside the one of now while the stream runs, then flipped, then told."""
    with one_line_errors():
        spec = _parsed(file)
        body = {
            "text": file.read_text(encoding="utf-8"),
            "author": current_author(),
            "per_second": per_second,
        }
        fold = call_api(current_environment(), "POST", "/admin/v1/cycles/publish", json=body)[
            "fold"
        ]
        if not detach:
            _wait(spec.cycle)
    typer.echo(f"{fold} is {'on its way' if detach else 'live'}; 'perigee cycle status' shows it")


@app.command("draft")
def draft(file: File) -> None:
    """Keep a file as a draft."""
    with one_line_errors():
        _parsed(file)
        body = {"text": file.read_text(encoding="utf-8"), "author": current_author()}
        fold = call_api(current_environment(), "POST", "/admin/v1/cycles/draft", json=body)["fold"]
    typer.echo(f"{fold} is kept as a draft")


@app.command("rollback")
def rollback(
    cycle: Annotated[str, typer.Argument(help="The cycle's name.")],
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait until it is live and told.")
    ] = False,
) -> None:
    """Give up a version that is being filled, else publish the one that was live before."""
    with one_line_errors():
        fold = call_api(
            current_environment(),
            "POST",
            f"/admin/v1/cycles/{cycle}/rollback",
            json={"author": current_author()},
        )["fold"]
        if not detach:
            _wait(cycle)
    typer.echo(f"{fold} {'becomes' if detach else 'is'} live")


@app.command("status")
def status(as_json: Json = False) -> None:
    """Show every version, and how far a change has come."""
    with one_line_errors():
        found = call_api(current_environment(), "GET", "/admin/v1/cycles")
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("cycle", "version", "status", "by", "since", "on its way")
    for row in found:
        parts = [f"{name} {row[name][0]} of {row[name][1]}" for name in _PARTS if row[name]]
        since = (row["live_at"] or row["created_at"])[:19].replace("T", " ")
        table.add_row(
            row["cycle"], row["version"], row["status"], row["author"], since, ", ".join(parts)
        )
    Console().print(table)


_PARTS = ("filled", "told", "swept")


def _parsed(file: Path) -> Any:
    from services.scoring.domain.cycle_parser import parse_cycle_spec

    return parse_cycle_spec(file.read_text(encoding="utf-8"), str(file))


def _wait(cycle: str) -> None:
    """Show how far a change has come until it is over."""
    from rich.progress import Progress

    with Progress(console=progress) as bar:
        tasks = {name: bar.add_task(name, total=None) for name in _PARTS}
        while True:
            rows = [
                r
                for r in call_api(current_environment(), "GET", "/admin/v1/cycles")
                if r["cycle"] == cycle
            ]
            left = {name: next((r[name] for r in rows if r[name]), None) for name in _PARTS}
            for name, part in left.items():
                if part:
                    bar.update(tasks[name], completed=part[0], total=part[1])
                elif bar.tasks[tasks[name]].total:
                    bar.update(tasks[name], completed=bar.tasks[tasks[name]].total)
            if not any(left.values()) and not any(r["status"] == "shadow" for r in rows):
                return
            time.sleep(0.3)


async def _backtested(surroundings: dict[str, str], spec: Any) -> Any:
    import msgspec

    from libs.common.clock import SystemClock
    from libs.common.db.connection import connect
    from services.scoring.backtest import run_backtest as run
    from services.scoring.domain.cycle import build_cycle
    from services.scoring.handlers.cycle_registry import DatabaseCycleRegistry

    connection = await connect(surroundings["DATABASE_URL"], application="perigee-backtest")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            live = [
                c
                for c in await DatabaseCycleRegistry().get_active_cycles(connection)
                if c.live and c.engine.name == spec.cycle
            ]
            then = build_cycle(spec.model_copy(update={"version": f"{spec.version}-backtest"}))
            return msgspec.to_builtins(
                await run(connection, live[0] if live else None, then, SystemClock().now())
            )
    finally:
        await connection.close()


def _print_backtest(found: Any, console: Console) -> None:
    moved = sum(m["people"] for m in found["moved"])
    console.print(
        f"{found['touchpoints']} touchpoints of {found['people']} people: {moved} would stand elsewhere"
    )
    table = Table("now", "then", "people", "for example")
    for m in found["moved"]:
        table.add_row(m["now"], m["then"], str(m["people"]), ", ".join(m["samples"]))
    console.print(table)
    console.print(f"transitions: {found['transitions_now']} now, {found['transitions_then']} then")
    table = Table("from", "to", "now", "then", "gained or lost")
    for s in found["steps"]:
        table.add_row(
            s["before"], s["after"], str(s["now"]), str(s["then"]), f"{s['then'] - s['now']:+d}"
        )
    console.print(table)
