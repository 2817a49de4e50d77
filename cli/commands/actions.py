"""`perigee action`: actions that failed or are in doubt, and their resolution."""

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
    limit: Annotated[int, typer.Option(help="Largest number of rows.")] = 100,
    as_json: Json = False,
) -> None:
    """List actions of a status, newest decisions first."""
    with one_line_errors():
        params = {"status": status, "limit": limit}
        actions = call_api(
            current_environment(),
            "GET",
            "/admin/v1/actions",
            service="ORCHESTRATOR_URL",
            params=params,
        )
    if as_json:
        typer.echo(json.dumps(actions))
        return
    rows = (
        (
            action["action_id"],
            action["decided_at"][:16],
            f"{action['play']}.{action['step']}",
            action["channel"],
            str(action["attempts"]),
            action["reason"],
        )
        for action in actions
    )
    Console().print(build_table("action", "when", "step", "channel", "attempts", "why", rows=rows))


@app.command("retry")
def retry(ids: Ids) -> None:
    """Try actions once more that failed, or that certainly never arrived."""
    _resolve(ids, "retry", "is tried once more")


@app.command("arrived")
def arrived(ids: Ids) -> None:
    """Record that actions in doubt arrived."""
    _resolve(ids, "arrived", "counts as sent")


@app.command("lost")
def lost(ids: Ids) -> None:
    """Record that actions in doubt never arrived; they are not tried again."""
    _resolve(ids, "lost", "counts as failed")


def _resolve(ids: list[str], verb: str, outcome: str) -> None:
    for action_id in ids:
        with one_line_errors():
            body = {"verb": verb, "author": current_author()}
            call_api(
                current_environment(),
                "POST",
                f"/admin/v1/actions/{action_id}",
                service="ORCHESTRATOR_URL",
                json=body,
            )
        typer.echo(f"action {action_id} {outcome}")
