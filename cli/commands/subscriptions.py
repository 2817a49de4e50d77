"""`perigee subscription`: who is told of stage changes and signals by webhook."""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api
from cli.terminal import Json, current_environment, one_line_errors, parse_instant
from libs.common.instants import to_datetime

app = typer.Typer(help="Webhook subscriptions.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The subscription.")]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type", help="stage_change (default), account_stage_change, signal, compelling_event."
    ),
]
Cycles = Annotated[list[str] | None, typer.Option("--cycle", help="Only these cycles; repeatable.")]
Stages = Annotated[
    list[str] | None, typer.Option("--stage", help="Only moves to these stages; repeatable.")
]
Directions = Annotated[
    list[str] | None, typer.Option("--direction", help="advance, regression …; repeatable.")
]
Reasons = Annotated[
    list[str] | None, typer.Option("--reason", help="touchpoint, time, history …; repeatable.")
]
Signals = Annotated[
    list[str] | None, typer.Option("--signal", help="Only these signals; repeatable.")
]


@app.command("create")
def create(  # noqa: PLR0913, PLR0917
    name: Name,
    url: Annotated[str, typer.Option(help="Where to post: https://…")],
    type_: Types = None, cycle: Cycles = None, stage: Stages = None, direction: Directions = None,
    reason: Reasons = None, signal: Signals = None,
    beginning: Annotated[bool, typer.Option("--from-beginning", help="Send what was published before, too.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Subscribe and print the secret that signs deliveries, once."""
    wanted = {
        "types": type_,
        "cycles": cycle,
        "stages": stage,
        "directions": direction,
        "reasons": reason,
    }
    given = {key: value for key, value in {**wanted, "signals": signal}.items() if value}
    _do(
        "POST",
        "",
        as_json,
        json={"name": name, "url": url, "wanted": given, "beginning": beginning},
    )


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the subscriptions and what each has before it."""
    with one_line_errors():
        found = call_api(
            current_environment(), "GET", "/admin/v1/subscriptions", door="ORCHESTRATOR_URL"
        )
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table(
        "subscription", "status", "to", "unread", "waiting", "given up", "failures in a row"
    )
    for one in found:
        waits = one["backlog"]
        numbers = (waits["unread"], waits["waiting"], waits["given_up"], one["failures"])
        table.add_row(
            one["name"], one["status"], one["url"], *(f"{number:,}" for number in numbers)
        )
    Console().print(table)


@app.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """Show a subscription and its newest deliveries."""
    _do("GET", f"/{quote(name, safe='')}", as_json)


@app.command("pause")
def pause(name: Name, as_json: Json = False) -> None:
    """Send nothing until it is resumed; its place in the log is kept."""
    _do("POST", f"/{quote(name, safe='')}/pause", as_json)


@app.command("resume")
def resume(name: Name, as_json: Json = False) -> None:
    """Go on where it stopped, also after it was disabled."""
    _do("POST", f"/{quote(name, safe='')}/resume", as_json)


@app.command("rotate")
def rotate(
    name: Name,
    overlap: Annotated[str, typer.Option(help="How long both secrets sign: 1d, 2h, 30m.")] = "1d",
    as_json: Json = False,
) -> None:
    """Sign with a new secret, printed once; for a while with the old one too."""
    _do("POST", f"/{quote(name, safe='')}/secret", as_json, json={"overlap": overlap})


@app.command("resend")
def resend(
    name: Name,
    message: Annotated[str | None, typer.Option(help="One message, by its webhook-id.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Everything published since (RFC 3339).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send again: one message, everything since an instant, or (without options) what was given up."""
    with one_line_errors():
        what = {"message": message, "since": parse_instant(since)}
    _do("POST", f"/{quote(name, safe='')}/resend", as_json, json=what)


@app.command("delete")
def delete(name: Name) -> None:
    """Forget a subscription, what waits for it and its delivery log."""
    with one_line_errors():
        call_api(
            current_environment(),
            "DELETE",
            f"/admin/v1/subscriptions/{quote(name, safe='')}",
            door="ORCHESTRATOR_URL",
        )
    typer.echo(f"{name} is deleted")


def _do(method: str, path: str, as_json: bool, **options: Any) -> None:
    with one_line_errors():
        found = call_api(
            current_environment(),
            method,
            f"/admin/v1/subscriptions{path}",
            door="ORCHESTRATOR_URL",
            **options,
        )
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(
        f"subscription: {found['name']} ({found['status']}{': ' if found['reason'] else ''}{found['reason']})"
    )
    typer.echo(f"to: {found['url']}")
    wanted = {key: value for key, value in found["selection"].items() if value}
    typer.echo(f"wants: {json.dumps(wanted) if wanted else 'every stage change'}")
    waits = found["backlog"]
    typer.echo(
        f"before it: {waits['unread']:,} unread, {waits['waiting']:,} waiting, {waits['given_up']:,} given up"
    )
    if found["secret"]:
        typer.echo(f"secret: {found['secret']}")
    if found["attempts"]:
        _print_attempts(found["attempts"])


def _print_attempts(attempts: list[dict[str, Any]]) -> None:
    table = Table(
        "when", "message", "of", "attempt", "answer", "ms", title="deliveries, newest first"
    )
    for one in attempts:
        answer = f"{one['status'] or ''} {one['detail']}".strip()
        when = to_datetime(one["at"]).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(
            when,
            one["message_id"],
            one["kind"],
            str(one["attempt"]),
            answer[:60],
            str(one["milliseconds"]),
        )
    Console().print(table)
