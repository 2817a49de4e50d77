"""`perigee play` and `perigee switch`: plays from a file to live and back, what they came to, and how to stop them."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, current_author
from cli.terminal import Json, build_table, current_environment, one_line_errors

app = typer.Typer(help="Plays: what is done when, and for whom.", no_args_is_help=True)
switch = typer.Typer(help="Stop a channel at once, and let it go on.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="A play as YAML or JSON.", exists=True, dir_okay=False)]
Name = Annotated[str, typer.Argument(help="The play.")]
Channel = Annotated[str, typer.Argument(help="email, webhook, slack; * for all.")]
Number = Annotated[int | None, typer.Option(help="The version; the one before by default.")]


@app.command("validate")
def validate(file: File) -> None:
    """Check a file against the live cycles: every fault with its line."""
    with one_line_errors():
        found = _do("POST", "/check", json=_written(file))
    typer.echo(f"{file}: play {found['play']}: valid")


@app.command("publish")
def publish(file: File) -> None:
    """Make a file the live version; who is in an earlier one stays in it."""
    with one_line_errors():
        made = _do("POST", "", json=_written(file))
    typer.echo(f"play {made['play']}: version {made['number']} is live")


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the plays."""
    with one_line_errors():
        found = _do("GET", "")
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = (
        (one["play"], str(one["number"]), one["status"], one["trigger"], one["published_at"][:10])
        for one in found
    )
    Console().print(build_table("play", "version", "status", "starts on", "since", rows=rows))


@app.command("show")
def show(
    name: Name,
    number: Annotated[int | None, typer.Option(help="Instead of the live version.")] = None,
) -> None:
    """Print a play as it was published, and its versions."""
    with one_line_errors():
        found = _do("GET", f"/{_quoted(name)}", params={"number": number} if number else {})
    typer.echo(found["text"].rstrip())
    for version, by, at in found["versions"]:
        typer.echo(f"# version {version}, published by {by} at {at[:19]}")


@app.command("pause")
def pause(name: Name) -> None:
    """Let a play stand still, with everybody in it."""
    with one_line_errors():
        _do("POST", f"/{_quoted(name)}/pause")
    typer.echo(f"play {name} stands still; 'perigee play resume {name}' lets it go on")


@app.command("resume")
def resume(name: Name) -> None:
    """Let a paused play go on."""
    with one_line_errors():
        _do("POST", f"/{_quoted(name)}/resume")
    typer.echo(f"play {name} goes on")


@app.command("rollback")
def rollback(name: Name, number: Number = None) -> None:
    """Make an earlier version live again, for those who enter from now on."""
    with one_line_errors():
        found = _do("POST", f"/{_quoted(name)}/rollback", json={"number": number})
    typer.echo(f"play {name}: version {found['number']} is live again")


@app.command("impact")
def impact(name: Name, as_json: Json = False) -> None:
    """Compare who was in a play with who was held out: how many reached its goal."""
    with one_line_errors():
        found = _do("GET", f"/{_quoted(name)}/impact")
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("group", "entered", "reached the goal", "rate", "95 % interval")
    for one in found:
        interval = f"{one['low']:.1%} to {one['high']:.1%}"
        table.add_row(
            one["group"],
            f"{one['entered']:,}",
            f"{one['reached']:,}",
            f"{one['rate']:.1%}",
            interval,
        )
    Console().print(table)


@app.command("simulate")
def simulate(
    file: File,
    since: Annotated[
        str, typer.Option("--since", help="From when on who entered, e.g. 30d.")
    ] = "30d",
    until: Annotated[
        str | None, typer.Option(help="Up to when (RFC 3339); now by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a file over what was published: who would have entered, what would have been sent, day by day. Touches nothing."""
    from cli.play_simulation import print_days, simulate_file

    with one_line_errors():
        found = simulate_file(current_environment(), file, since, until)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_days(found, Console())


@app.command("maturity")
def maturity(as_json: Json = False) -> None:
    """Show how far the workspace has come, 1 to 4, by what really runs; and what is missing for the next level."""
    with one_line_errors():
        found = call_api(
            current_environment(), "GET", "/admin/v1/maturity", door="ORCHESTRATOR_URL"
        )
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("level", "wants", "", title=f"level {found['level']} of 4")
    for one in found["checks"]:
        table.add_row(str(one["level"]), one["wants"], "yes" if one["passed"] else one["cure"])
    Console().print(table)
    for one in found["rates"]:
        interval = (
            f"{one['rate']:.1%} ({one['low']:.1%} to {one['high']:.1%}) of {one['entered']:,}"
        )
        typer.echo(f"{one['group']}: {interval}; a megaphone reaches {found['baseline']:.1%}")
    if found["ahead"]:
        typer.echo(f"ahead of the level: {', '.join(found['ahead'])}")


@app.command("preview")
def preview(
    file: File,
    action: Annotated[str, typer.Argument(help="The action's name.")],
    who: Annotated[
        str, typer.Option("--as", help="Contact id, user id or e-mail of a real contact.")
    ],
    to: Annotated[
        str | None, typer.Option(help="Send it to this address as well, past the ledger.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what an action would say to a contact; `--to` is a test-send."""
    with one_line_errors():
        body = {**_written(file), "action": action, "who": who, "to": to}
        found = _do("POST", "/preview", json=body)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        if value:
            typer.echo(f"{name}: {value}")


@app.command("test-send")
def test_send(
    file: File,
    action: Annotated[str, typer.Argument(help="The action's name.")],
    who: Annotated[
        str, typer.Option("--as", help="Contact id, user id or e-mail of a real contact.")
    ],
    to: Annotated[str, typer.Option(help="The address that gets it.")],
) -> None:
    """Send an action's mail as a contact would get it to an address of yours; it counts for nothing."""
    with one_line_errors():
        body = {**_written(file), "action": action, "who": who, "to": to}
        found = _do("POST", "/preview", json=body)
    typer.echo(f"{found['subject']}: {found['sent']}")


@switch.command("off")
def off(channel: Channel = "*") -> None:
    """Stop a channel: what is due is held, nothing is lost."""
    with one_line_errors():
        call_api(current_environment(), "POST", "/admin/v1/switches", door="ORCHESTRATOR_URL",
             json={"channel": channel, "author": current_author()})  # fmt: skip
    typer.echo(f"{channel}: nothing goes out; 'perigee switch on {channel}' lets it go on")


@switch.command("on")
def on(channel: Channel = "*") -> None:
    """Let a channel go on: what was held goes out."""
    with one_line_errors():
        call_api(
            current_environment(),
            "DELETE",
            f"/admin/v1/switches/{_quoted(channel)}",
            door="ORCHESTRATOR_URL",
        )
    typer.echo(f"{channel}: goes on")


@switch.command("list")
def stopped() -> None:
    """List the channels that stand still."""
    with one_line_errors():
        found = call_api(
            current_environment(), "GET", "/admin/v1/switches", door="ORCHESTRATOR_URL"
        )
    typer.echo("\n".join(found) if found else "nothing is stopped")


def _written(file: Path) -> dict[str, str]:
    return {
        "text": file.read_text(encoding="utf-8"),
        "author": current_author(),
        "where": str(file),
    }


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _do(method: str, path: str, **options: Any) -> Any:
    return call_api(
        current_environment(), method, f"/admin/v1/plays{path}", door="ORCHESTRATOR_URL", **options
    )
