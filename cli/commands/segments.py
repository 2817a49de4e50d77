"""`perigee segment members`: contacts of a watched segment, since when, and their owners."""

import json
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from cli.api_client import call_api
from cli.terminal import Json, build_table, current_environment, one_line_errors


def members(
    name: Annotated[
        str | None, typer.Argument(help="The segment; without it: the number of contacts in each.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Largest number of rows.")] = 100,
    as_json: Json = False,
) -> None:
    """List the contacts of a watched segment, the longest wait first.

    `orphans` are contacts without an owner.
    """
    path, params = (
        ("", {}) if name is None else (f"/{quote(name, safe='')}/members", {"limit": limit})
    )
    with one_line_errors():
        rows = call_api(
            current_environment(),
            "GET",
            f"/admin/v1/segments{path}",
            service="ORCHESTRATOR_URL",
            params=params,
        )
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if name is None:
        counts = ((row["segment"], f"{row['contacts']:,}") for row in rows)
        Console().print(build_table("segment", "contacts", rows=counts))
        return
    cells = (
        (
            row["email"] or row["contact_id"],
            row["stage"] or "-",
            row["owner"] or "-",
            row["since"][:16],
            f"{(row['deadline'] or '-')[:16]}{' overdue' if row['overdue'] else ''}",
        )
        for row in rows
    )
    Console().print(build_table("contact", "stage", "owner", "since", "care until", rows=cells))
