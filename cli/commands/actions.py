"""`perigee action`: what failed, what nobody knows of, and what is to become of it."""

import json
from typing import Annotated

import typer
from rich.console import Console

from cli.api_client import call_api, current_author
from cli.terminal import Json, build_table, current_environment, one_line_errors

app = typer.Typer(help="Actions that failed or are in doubt.", no_args_is_help=True)
Ids = Annotated[list[str], typer.Argument(help="Ids of actions.")]


@app.command("list")
def listing(
    status: Annotated[
        str, typer.Option(help="failed, in_doubt, held, sent, suppressed, capped, skipped.")
    ] = "failed",
    limit: Annotated[int, typer.Option(help="How many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """List actions of a status, those decided last first."""
    with one_line_errors():
        params = {"status": status, "limit": limit}
        found = call_api(
            current_environment(),
            "GET",
            "/admin/v1/actions",
            door="ORCHESTRATOR_URL",
            params=params,
        )
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = (
        (
            one["action_id"],
            one["decided_at"][:16],
            f"{one['play']}.{one['step']}",
            one["channel"],
            str(one["attempts"]),
            one["reason"],
        )
        for one in found
    )
    Console().print(build_table("action", "when", "what", "channel", "why", rows=rows))


@app.command("retry")
def retry(ids: Ids) -> None:
    """Try actions once more that failed, or of which you know that they never arrived."""
    _say(ids, "retry", "is tried once more")


@app.command("arrived")
def arrived(ids: Ids) -> None:
    """Say of actions in doubt that they arrived."""
    _say(ids, "arrived", "counts as sent")


@app.command("lost")
def lost(ids: Ids) -> None:
    """Say of actions in doubt that they never arrived, and leave it at that."""
    _say(ids, "lost", "counts as failed")


def _say(ids: list[str], verb: str, done: str) -> None:
    for one in ids:
        with one_line_errors():
            body = {"verb": verb, "author": current_author()}
            call_api(
                current_environment(),
                "POST",
                f"/admin/v1/actions/{one}",
                door="ORCHESTRATOR_URL",
                json=body,
            )
        typer.echo(f"action {one} {done}")
