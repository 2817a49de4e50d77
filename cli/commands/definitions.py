"""`perigee content`, `perigee segment`, `perigee destination`: definitions that plays refer to."""

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
    "content": "The catalogue of contents to offer.",
    "segment": "Named conditions, for plays to use.",
    "destination": "Receivers of the webhooks and Slack messages of plays.",
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
    """Show cells of stage, level and channel without content, and unanswered questions."""
    with one_line_errors():
        params = {"cycle": cycle}
        coverage_report = call_api(
            current_environment(),
            "GET",
            "/admin/v1/coverage",
            service="ORCHESTRATOR_URL",
            params=params,
        )
    if as_json:
        typer.echo(json.dumps(coverage_report))
        return
    cells = Table(
        "stage",
        "level",
        "channel",
        "contents",
        "contacts",
        title=f"{coverage_report['empty']} cells with contacts and without content",
    )
    for cell in coverage_report["cells"]:
        if everything or (not cell["contents"] and cell["contacts"]):
            numbers = (f"{cell['contents']:,}", f"{cell['contacts']:,}")
            cells.add_row(cell["stage"], cell["level"], cell["channel"], *numbers)
    questions = Table("stage", "question", "answered by", "contacts")
    for question in coverage_report["questions"]:
        questions.add_row(
            question["stage"],
            question["question"],
            ", ".join(question["contents"]) or "nothing",
            f"{question['contacts']:,}",
        )
    Console().print(cells, questions)


def build_group(kind: str) -> typer.Typer:
    """Return the commands of a kind of definition."""
    app = typer.Typer(help=DEFINITION_KINDS[kind], no_args_is_help=True)

    @app.command("put")
    def put(file: File) -> None:
        """Store a file; it replaces the definition of its name."""
        with one_line_errors():
            body = {
                "text": file.read_text(encoding="utf-8"),
                "author": current_author(),
                "where": str(file),
            }
            stored = call_api(
                current_environment(),
                "POST",
                f"/admin/v1/definitions/{kind}",
                service="ORCHESTRATOR_URL",
                json=body,
            )
        typer.echo(f"{kind} {stored[kind]} is stored")

    @app.command("list")
    def listing(as_json: Json = False) -> None:
        """List the definitions."""
        with one_line_errors():
            definitions = call_api(
                current_environment(), "GET", "/admin/v1/definitions", service="ORCHESTRATOR_URL"
            )
        rows = [definition for definition in definitions if definition["kind"] == kind]
        if as_json:
            typer.echo(json.dumps(rows))
            return
        Console().print(
            build_table(
                kind, "as it was written", rows=((row["name"], row["text"].strip()) for row in rows)
            )
        )

    @app.command("remove")
    def remove(name: Name) -> None:
        """Remove a definition, unless a live play refers to it."""
        with one_line_errors():
            call_api(
                current_environment(),
                "DELETE",
                f"/admin/v1/definitions/{kind}/{name}",
                service="ORCHESTRATOR_URL",
            )
        typer.echo(f"{kind} {name} is removed")

    if kind == "content":
        app.command("coverage")(coverage)
    if kind == "segment":
        app.command("members")(members)
    return app
