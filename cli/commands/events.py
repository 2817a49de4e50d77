"""`perigee event`: compelling events, raised, changed and withdrawn by hand."""

import json
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api
from cli.terminal import Json, current_environment, one_line_errors, parse_instant
from libs.common.instants import to_iso

app = typer.Typer(
    help="Compelling events: reasons to act now, with date and owner.", no_args_is_help=True
)
Id = Annotated[str, typer.Argument(help="The event's id.")]
Date = Annotated[str | None, typer.Option(help="Deadline (RFC 3339).")]
Owner = Annotated[str, typer.Option(help="The person in charge.")]
Consequence = Annotated[str, typer.Option(help="Consequence of missing the date.")]


@app.command("raise")
def raise_(  # noqa: PLR0913, PLR0917
    kind: Annotated[str, typer.Argument(help="Its kind: contract_ends, funding …")],
    who: Annotated[
        str, typer.Option(help="Contact (id, identifier, e-mail) or account; empty for a market.")
    ] = "",
    scope: Annotated[
        Literal["contact", "account", "market"], typer.Option(help="Subject of the event.")
    ] = "contact",
    date: Date = None,
    owner: Owner = "",
    consequence: Consequence = "",
    event_id: Annotated[
        str, typer.Option("--id", help="Your id, so that nothing is raised twice.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Raise an event: plays of its kind start, and start again when its date nears."""
    with one_line_errors():
        body = {
            "kind": kind,
            "scope": scope,
            "who": who,
            "date": parse_instant(date),
            "owner": owner,
        }
        event = _call("POST", "", json={**body, "consequence": consequence, "event_id": event_id})
    typer.echo(json.dumps(event) if as_json else f"event {event['event_id']} is raised")


@app.command("list")
def listing(
    who: Annotated[str | None, typer.Option(help="Only events about this contact.")] = None,
    as_json: Json = False,
) -> None:
    """List the open events, the earliest date first."""
    with one_line_errors():
        open_events = _call("GET", "", params={"who": who} if who else {})
    if as_json:
        typer.echo(json.dumps(open_events))
        return
    table = Table("event", "kind", "scope", "about", "date", "owner", "consequence")
    for event in open_events:
        date = to_iso(event["date"])[:10] if event["date"] else "-"
        table.add_row(
            event["event_id"],
            event["kind"],
            event["scope"],
            event["subject"],
            date,
            event["owner"],
            event["consequence"],
        )
    Console().print(table)


@app.command("update")
def update(
    event_id: Id, date: Date = None, owner: Owner = "", consequence: Consequence = ""
) -> None:
    """Change an open event; a new date starts its thresholds again."""
    with one_line_errors():
        options = {
            "date": parse_instant(date),
            "owner": owner or None,
            "consequence": consequence or None,
        }
        changes = {key: value for key, value in options.items() if value is not None}
        _call("PATCH", f"/{quote(event_id, safe='')}", json=changes)
    typer.echo(f"event {event_id} is changed")


@app.command("withdraw")
def withdraw(event_id: Id) -> None:
    """Withdraw an event: the plays that it started end."""
    with one_line_errors():
        _call("DELETE", f"/{quote(event_id, safe='')}")
    typer.echo(f"event {event_id} is withdrawn")


def _call(method: str, path: str, **options: Any) -> Any:
    return call_api(current_environment(), method, f"/v1/compelling-events{path}", **options)
