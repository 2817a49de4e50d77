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
    help="Compelling events: why act now, until when, for whom.", no_args_is_help=True
)
Id = Annotated[str, typer.Argument(help="The event's id.")]
Date = Annotated[str | None, typer.Option(help="When it will be too late (RFC 3339).")]
Owner = Annotated[str, typer.Option(help="Who looks after it.")]
Consequence = Annotated[str, typer.Option(help="What happens if nobody acts.")]


@app.command("raise")
def raise_(  # noqa: PLR0913, PLR0917
    kind: Annotated[str, typer.Argument(help="What kind it is: contract_ends, funding …")],
    who: Annotated[
        str, typer.Option(help="Contact (id, identifier, e-mail) or account; nobody for a market.")
    ] = "",
    scope: Annotated[
        Literal["contact", "account", "market"], typer.Option(help="Whom it concerns.")
    ] = "contact",
    date: Date = None,
    owner: Owner = "",
    consequence: Consequence = "",
    event_id: Annotated[
        str, typer.Option("--id", help="Your id, so that nothing is raised twice.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Raise an event: plays of its kind start, again when its date nears."""
    with one_line_errors():
        body = {
            "kind": kind,
            "scope": scope,
            "who": who,
            "date": parse_instant(date),
            "owner": owner,
        }
        found = _do("POST", "", json={**body, "consequence": consequence, "event_id": event_id})
    typer.echo(json.dumps(found) if as_json else f"event {found['event_id']} is raised")


@app.command("list")
def listing(
    who: Annotated[str | None, typer.Option(help="Only those about this contact.")] = None,
    as_json: Json = False,
) -> None:
    """List the open events, those whose date comes first first."""
    with one_line_errors():
        found = _do("GET", "", params={"who": who} if who else {})
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("event", "kind", "scope", "about", "date", "owner", "consequence")
    for one in found:
        date = to_iso(one["date"])[:10] if one["date"] else "-"
        table.add_row(
            one["event_id"],
            one["kind"],
            one["scope"],
            one["subject"],
            date,
            one["owner"],
            one["consequence"],
        )
    Console().print(table)


@app.command("update")
def update(
    event_id: Id, date: Date = None, owner: Owner = "", consequence: Consequence = ""
) -> None:
    """Change an open event; another date lets its thresholds come again."""
    with one_line_errors():
        given = {
            "date": parse_instant(date),
            "owner": owner or None,
            "consequence": consequence or None,
        }
        changes = {key: value for key, value in given.items() if value is not None}
        _do("PATCH", f"/{quote(event_id, safe='')}", json=changes)
    typer.echo(f"event {event_id} is changed")


@app.command("withdraw")
def withdraw(event_id: Id) -> None:
    """Take an event back: what it started ends."""
    with one_line_errors():
        _do("DELETE", f"/{quote(event_id, safe='')}")
    typer.echo(f"event {event_id} is withdrawn")


def _do(method: str, path: str, **options: Any) -> Any:
    return call_api(
        current_environment(), method, f"/v1/compelling-events{path}", door="SCORING_URL", **options
    )
