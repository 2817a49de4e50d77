"""`perigee segment members`: who is in a watched segment, since when, and who is to take care."""

import json
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from cli.api_client import call_api
from cli.terminal import Json, build_table, current_environment, one_line_errors


def members(
    name: Annotated[
        str | None, typer.Argument(help="The segment; without one: how many are in each.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """List who is in a watched segment, who has waited longest first; `orphans` are those whom nobody takes care of."""
    path, params = (
        ("", {}) if name is None else (f"/{quote(name, safe='')}/members", {"limit": limit})
    )
    with one_line_errors():
        found = call_api(
            current_environment(),
            "GET",
            f"/admin/v1/segments{path}",
            door="ORCHESTRATOR_URL",
            params=params,
        )
    if as_json:
        typer.echo(json.dumps(found))
        return
    if name is None:
        counts = ((one["segment"], f"{one['contacts']:,}") for one in found)
        Console().print(build_table("segment", "contacts", rows=counts))
        return
    rows = (
        (
            one["email"] or one["contact_id"],
            one["stage"] or "-",
            one["owner"] or "nobody",
            one["since"][:16],
            f"{(one['deadline'] or '-')[:16]}{' overdue' if one['overdue'] else ''}",
        )
        for one in found
    )
    Console().print(build_table("who", "stage", "owner", "since", "care until", rows=rows))
