"""`perigee play`: plays from a file to live and back, their impact, and how to pause them."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, current_author
from cli.terminal import (
    Json,
    build_table,
    current_environment,
    one_line_errors,
    parse_instant,
    progress,
)
from libs.common.clock import SystemClock
from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError

app = typer.Typer(help="Plays: actions, their triggers and their conditions.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="A play as YAML or JSON.", exists=True, dir_okay=False)]
Name = Annotated[str, typer.Argument(help="The play.")]
Recipient = Annotated[
    str, typer.Option("--as", help="Contact id, identifier or e-mail of a real contact.")
]
MAX_STEPS = 100_000
"""Most steps of a simulation that JSON shows, the earliest first."""
Number = Annotated[int | None, typer.Option(help="The version; the one before by default.")]


@app.command("validate")
def validate(file: File) -> None:
    """Check a file against the live cycles: every fault with its line."""
    with one_line_errors():
        play = _call("POST", "/check", json=_document(file))["play"]
    typer.echo(f"{file}: play {play}: valid")


@app.command("publish")
def publish(file: File) -> None:
    """Make a file the live version; contacts in an earlier version stay in it."""
    with one_line_errors():
        version = _call("POST", "", json=_document(file))
    typer.echo(f"play {version['play']}: version {version['number']} is live")


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the plays."""
    with one_line_errors():
        plays = _call("GET", "")
    if as_json:
        typer.echo(json.dumps(plays))
        return
    rows = (
        (
            play["play"],
            str(play["number"]),
            play["status"],
            play["trigger"],
            play["published_at"][:10],
        )
        for play in plays
    )
    Console().print(build_table("play", "version", "status", "starts on", "since", rows=rows))


@app.command("show")
def show(
    name: Name,
    number: Annotated[int | None, typer.Option(help="Instead of the live version.")] = None,
) -> None:
    """Print a play as it was published, and its versions."""
    with one_line_errors():
        play = _call("GET", f"/{_quoted(name)}", params={"number": number} if number else {})
    typer.echo(play["text"].rstrip())
    for version, author, at in play["versions"]:
        typer.echo(f"# version {version}, published by {author} at {at[:19]}")


@app.command("pause")
def pause(name: Name) -> None:
    """Pause a play with all its enrollments."""
    with one_line_errors():
        _call("POST", f"/{_quoted(name)}/pause")
    typer.echo(f"play {name} is paused; 'perigee play resume {name}' lets it go on")


@app.command("resume")
def resume(name: Name) -> None:
    """Let a paused play go on."""
    with one_line_errors():
        _call("POST", f"/{_quoted(name)}/resume")
    typer.echo(f"play {name} goes on")


@app.command("rollback")
def rollback(name: Name, number: Number = None) -> None:
    """Make an earlier version live again, for contacts that enter from now on."""
    with one_line_errors():
        version = _call("POST", f"/{_quoted(name)}/rollback", json={"number": number})
    typer.echo(f"play {name}: version {version['number']} is live again")


@app.command("impact")
def impact(name: Name, as_json: Json = False) -> None:
    """Compare a play's contacts with its holdout group: how many reached the goal."""
    with one_line_errors():
        groups = _call("GET", f"/{_quoted(name)}/impact")
    if as_json:
        typer.echo(json.dumps(groups))
        return
    table = Table("group", "entered", "reached the goal", "rate", "95 % interval")
    for group in groups:
        interval = f"{group['low']:.1%} to {group['high']:.1%}"
        table.add_row(
            group["group"],
            f"{group['entered']:,}",
            f"{group['reached']:,}",
            f"{group['rate']:.1%}",
            interval,
        )
    Console().print(table)


@app.command("simulate")
def simulate(
    file: File,
    since: Annotated[
        str, typer.Option("--since", help="Length of the period before its end, e.g. 30d.")
    ] = "30d",
    until: Annotated[
        str | None, typer.Option(help="End of the period (RFC 3339); now by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a file over the published history: entries and actions, day by day. Sends nothing."""
    with one_line_errors():
        begin, end = _period(since, until)
        body = {
            **_document(file),
            "since": begin,
            "until": end,
            "limit": MAX_STEPS if as_json else 0,
        }
        with progress.status("simulating"):
            result = _call("POST", "/simulate", timeout=None, json=body)
    if as_json:
        typer.echo(json.dumps(_simulation_document(result)))
    else:
        _print_simulation(result, Console())


@app.command("maturity")
def maturity(as_json: Json = False) -> None:
    """Show the workspace's maturity level, 1 to 4, by the plays that run.

    And the requirements of the next level.
    """
    with one_line_errors():
        report = call_api(
            current_environment(), "GET", "/admin/v1/maturity", service="ORCHESTRATOR_URL"
        )
    if as_json:
        typer.echo(json.dumps(report))
        return
    table = Table("level", "wants", "", title=f"level {report['level']} of 4")
    for check in report["checks"]:
        result = "yes" if check["passed"] else check["cure"]
        table.add_row(str(check["level"]), check["wants"], result)
    Console().print(table)
    for rate in report["rates"]:
        interval = (
            f"{rate['rate']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}) of {rate['entered']:,}"
        )
        typer.echo(f"{rate['group']}: {interval}; the baseline is {report['baseline']:.1%}")
    if report["ahead"]:
        typer.echo(f"ahead of the level: {', '.join(report['ahead'])}")


@app.command("preview")
def preview(
    file: File,
    action: Annotated[str, typer.Argument(help="The action's name.")],
    contact: Recipient,
    to: Annotated[
        str | None, typer.Option(help="Send it to this address as well, outside the ledger.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Render an action for a contact; `--to` is a test-send."""
    with one_line_errors():
        body = {**_document(file), "action": action, "who": contact, "to": to}
        rendered = _call("POST", "/preview", json=body)
    if as_json:
        typer.echo(json.dumps(rendered))
        return
    for name, value in rendered.items():
        if value:
            typer.echo(f"{name}: {value}")


@app.command("test-send")
def test_send(
    file: File,
    action: Annotated[str, typer.Argument(help="The action's name.")],
    contact: Recipient,
    to: Annotated[str, typer.Option(help="The address that gets it.")],
) -> None:
    """Send an action's mail, rendered for a contact, to an address of yours.

    It counts for nothing.
    """
    with one_line_errors():
        body = {**_document(file), "action": action, "who": contact, "to": to}
        rendered = _call("POST", "/preview", json=body)
    typer.echo(f"{rendered['subject']}: {rendered['sent']}")


def _document(file: Path) -> dict[str, str]:
    return {
        "text": file.read_text(encoding="utf-8"),
        "author": current_author(),
        "where": str(file),
    }


def _period(since: str, until: str | None) -> tuple[int, int]:
    """Return the period of a simulation, in microseconds UTC. Raises ConfigurationError."""
    end = parse_instant(until) or SystemClock().now()
    try:
        return end - parse_duration(since), end
    except ValueError as error:
        raise ConfigurationError(f"--since {since}: {error}") from None


def _simulation_document(result: Any) -> dict[str, Any]:
    """Return a simulation's JSON, with the counts of a day beside the day."""
    days = [{"day": day["day"], **day["counts"]} for day in result["days"]]
    return {"contacts": result["contacts"], "days": days, "happened": result["happened"]}


def _print_simulation(result: Any, console: Console) -> None:
    names = list(dict.fromkeys(name for day in result["days"] for name in day["counts"]))
    title = f"simulated entries and actions of {result['contacts']:,} contacts"
    table = Table("day", *names, title=title)
    for day in result["days"]:
        counts = day["counts"]
        table.add_row(
            day["day"], *(f"{counts[name]:,}" if name in counts else "" for name in names)
        )
    totals = [sum(day["counts"].get(name, 0) for day in result["days"]) for name in names]
    table.add_row("all", *(f"{total:,}" for total in totals), style="bold")
    console.print(table)


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _call(method: str, path: str, **options: Any) -> Any:
    return call_api(
        current_environment(),
        method,
        f"/admin/v1/plays{path}",
        service="ORCHESTRATOR_URL",
        **options,
    )
