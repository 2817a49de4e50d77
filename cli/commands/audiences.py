"""`perigee audience`: contacts that fell from a stage without having reached another."""

import json
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, get_text
from cli.terminal import Json, current_environment, one_line_errors

app = typer.Typer(
    help="Contacts that fell from a stage without having reached another; they leave on return.",
    no_args_is_help=True,
)
Cycle = Annotated[str, typer.Option(help="The cycle.")]


@app.command("list")
def listing(cycle: Cycle = "engagement", as_json: Json = False) -> None:
    """List every pair of stages with its contacts, now."""
    with one_line_errors():
        audiences = call_api(
            current_environment(),
            "GET",
            "/admin/v1/audiences",
            service="ORCHESTRATOR_URL",
            params={"cycle": cycle},
        )
    if as_json:
        typer.echo(json.dumps(audiences))
        return
    table = Table("fell from", "never reached", "contacts")
    for audience in audiences:
        if audience["contacts"]:
            table.add_row(
                audience["fell_from"], audience["never_reached"], f"{audience['contacts']:,}"
            )
    Console().print(table)


@app.command("export")
def export(
    fell_from: Annotated[str, typer.Argument(help="The stage that they fell from.")],
    never_reached: Annotated[str, typer.Argument(help="The stage that they had not reached.")],
    to: Annotated[Path | None, typer.Option(help="A file; printed by default.")] = None,
    cycle: Cycle = "engagement",
) -> None:
    """Write an audience as CSV: contacts that allow marketing, addresses as SHA-256."""
    with one_line_errors():
        path = f"/admin/v1/audiences/{quote(fell_from, safe='')}/{quote(never_reached, safe='')}"
        text = get_text(
            current_environment(), path, service="ORCHESTRATOR_URL", params={"cycle": cycle}
        )
    if to is None:
        typer.echo(text, nl=False)
    else:
        to.write_text(text, encoding="utf-8")
        typer.echo(f"{max(0, text.count(chr(10)) - 1):,} contacts in {to}")
