"""`perigee content`, `perigee segment`, `perigee destination`: what plays name."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, current_author
from cli.commands.segments import members
from cli.terminal import Json, build_table, current_environment, one_line_errors

DEFINITION_KINDS = {
    "content": "The catalogue of what may be offered.",
    "segment": "Named conditions, for plays to use.",
    "destination": "Where webhooks and Slack messages of plays go.",
}
File = Annotated[Path, typer.Argument(help="A YAML file.", exists=True, dir_okay=False)]
Name = Annotated[str, typer.Argument(help="Its name.")]


def coverage(
    cycle: Annotated[str, typer.Option(help="The cycle.")] = "engagement",
    everything: Annotated[
        bool, typer.Option("--all", help="Cells that have contents, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show which cells of stage, level and channel have no content, and which questions no answer."""
    with one_line_errors():
        params = {"cycle": cycle}
        found = call_api(
            current_environment(),
            "GET",
            "/admin/v1/coverage",
            door="ORCHESTRATOR_URL",
            params=params,
        )
    if as_json:
        typer.echo(json.dumps(found))
        return
    cells = Table(
        "stage",
        "level",
        "channel",
        "contents",
        "contacts",
        title=f"{found['empty']} cells with people and no content",
    )
    for one in found["cells"]:
        if everything or (not one["contents"] and one["contacts"]):
            numbers = (f"{one['contents']:,}", f"{one['contacts']:,}")
            cells.add_row(one["stage"], one["level"], one["channel"], *numbers)
    asked = Table("stage", "question", "answered by", "contacts")
    for one in found["questions"]:
        asked.add_row(
            one["stage"],
            one["question"],
            ", ".join(one["contents"]) or "nothing",
            f"{one['contacts']:,}",
        )
    Console().print(cells, asked)


def build_group(kind: str) -> typer.Typer:
    """Return the commands of a kind of definition."""
    app = typer.Typer(help=DEFINITION_KINDS[kind], no_args_is_help=True)

    @app.command("put")
    def put(file: File) -> None:
        """Store a file in place of the one of its name."""
        with one_line_errors():
            body = {
                "text": file.read_text(encoding="utf-8"),
                "author": current_author(),
                "where": str(file),
            }
            made = call_api(
                current_environment(),
                "POST",
                f"/admin/v1/definitions/{kind}",
                door="ORCHESTRATOR_URL",
                json=body,
            )
        typer.echo(f"{kind} {made[kind]} is stored")

    @app.command("list")
    def listing(as_json: Json = False) -> None:
        """List what is defined."""
        with one_line_errors():
            found = call_api(
                current_environment(), "GET", "/admin/v1/definitions", door="ORCHESTRATOR_URL"
            )
        mine = [one for one in found if one["kind"] == kind]
        if as_json:
            typer.echo(json.dumps(mine))
            return
        Console().print(
            build_table(
                kind, "as it was written", rows=((one["name"], one["text"].strip()) for one in mine)
            )
        )

    @app.command("remove")
    def remove(name: Name) -> None:
        """Remove it, unless a live play names it."""
        with one_line_errors():
            call_api(
                current_environment(),
                "DELETE",
                f"/admin/v1/definitions/{kind}/{name}",
                door="ORCHESTRATOR_URL",
            )
        typer.echo(f"{kind} {name} is gone")

    if kind == "content":
        app.command("coverage")(coverage)
    if kind == "segment":
        app.command("members")(members)
    return app
