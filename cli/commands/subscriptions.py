"""`perigee subscription`: webhook subscribers of stage changes and signals."""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api
from cli.terminal import (
    Json,
    current_environment,
    format_instant,
    one_line_errors,
    parse_instant,
)

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
    url: Annotated[str, typer.Option(help="Address to post to: https://…")],
    type_: Types = None,
    cycle: Cycles = None,
    stage: Stages = None,
    direction: Directions = None,
    reason: Reasons = None,
    signal: Signals = None,
    beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Send earlier messages, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Subscribe and print the secret that signs deliveries, once."""
    filters = {
        "types": type_,
        "cycles": cycle,
        "stages": stage,
        "directions": direction,
        "reasons": reason,
    }
    selection = {key: value for key, value in {**filters, "signals": signal}.items() if value}
    _call(
        "POST",
        "",
        as_json,
        json={"name": name, "url": url, "wanted": selection, "beginning": beginning},
    )


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the subscriptions and the backlog of each."""
    with one_line_errors():
        subscriptions = call_api(
            current_environment(), "GET", "/admin/v1/subscriptions", service="ORCHESTRATOR_URL"
        )
    if as_json:
        typer.echo(json.dumps(subscriptions))
        return
    table = Table(
        "subscription", "status", "to", "unread", "waiting", "given up", "failures in a row"
    )
    for row in subscriptions:
        backlog = row["backlog"]
        numbers = (backlog["unread"], backlog["waiting"], backlog["given_up"], row["failures"])
        table.add_row(
            row["name"], row["status"], row["url"], *(f"{number:,}" for number in numbers)
        )
    Console().print(table)


@app.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """Show a subscription and its newest deliveries."""
    _call("GET", f"/{quote(name, safe='')}", as_json)


@app.command("pause")
def pause(name: Name, as_json: Json = False) -> None:
    """Send nothing until the subscription is resumed; its position in the log is kept."""
    _call("POST", f"/{quote(name, safe='')}/pause", as_json)


@app.command("resume")
def resume(name: Name, as_json: Json = False) -> None:
    """Go on at the position where it stopped, also after it was disabled."""
    _call("POST", f"/{quote(name, safe='')}/resume", as_json)


@app.command("rotate")
def rotate(
    name: Name,
    overlap: Annotated[str, typer.Option(help="How long both secrets sign: 1d, 2h, 30m.")] = "1d",
    as_json: Json = False,
) -> None:
    """Sign with a new secret, printed once; for a while with the old one too."""
    _call("POST", f"/{quote(name, safe='')}/secret", as_json, json={"overlap": overlap})


@app.command("resend")
def resend(
    name: Name,
    message: Annotated[str | None, typer.Option(help="One message, by its webhook-id.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Everything published since (RFC 3339).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send again: one message, all since an instant, or (without options) those given up."""
    with one_line_errors():
        body = {"message": message, "since": parse_instant(since)}
    _call("POST", f"/{quote(name, safe='')}/resend", as_json, json=body)


@app.command("delete")
def delete(name: Name) -> None:
    """Delete a subscription, its waiting messages and its delivery log."""
    with one_line_errors():
        call_api(
            current_environment(),
            "DELETE",
            f"/admin/v1/subscriptions/{quote(name, safe='')}",
            service="ORCHESTRATOR_URL",
        )
    typer.echo(f"{name} is deleted")


def _call(method: str, path: str, as_json: bool, **options: Any) -> None:
    with one_line_errors():
        subscription = call_api(
            current_environment(),
            method,
            f"/admin/v1/subscriptions{path}",
            service="ORCHESTRATOR_URL",
            **options,
        )
    if as_json:
        typer.echo(json.dumps(subscription))
        return
    reason = f": {subscription['reason']}" if subscription["reason"] else ""
    typer.echo(f"subscription: {subscription['name']} ({subscription['status']}{reason})")
    typer.echo(f"to: {subscription['url']}")
    selection = {key: value for key, value in subscription["selection"].items() if value}
    typer.echo(f"wants: {json.dumps(selection) if selection else 'every stage change'}")
    backlog = subscription["backlog"]
    typer.echo(
        f"before it: {backlog['unread']:,} unread, {backlog['waiting']:,} waiting, "
        f"{backlog['given_up']:,} given up"
    )
    if subscription["secret"]:
        typer.echo(f"secret: {subscription['secret']}")
    if subscription["attempts"]:
        _print_attempts(subscription["attempts"])


def _print_attempts(attempts: list[dict[str, Any]]) -> None:
    table = Table(
        "when", "message", "of", "attempt", "answer", "ms", title="deliveries, newest first"
    )
    for attempt in attempts:
        answer = f"{attempt['status'] or ''} {attempt['detail']}".strip()
        table.add_row(
            format_instant(attempt["at"]),
            attempt["message_id"],
            attempt["kind"],
            str(attempt["attempt"]),
            answer[:60],
            str(attempt["milliseconds"]),
        )
    Console().print(table)
