"""`perigee referral`: codes that contacts give to friends, and what came of them."""

import json
from typing import Annotated

import typer
from rich.console import Console

from cli.api_client import call_api
from cli.terminal import Json, build_table, current_environment, one_line_errors

app = typer.Typer(help="Recommendations: codes, and who came by them.", no_args_is_help=True)


@app.command("code")
def code(
    who: Annotated[str, typer.Argument(help="Contact id, user id or e-mail.")],
    as_json: Json = False,
) -> None:
    """Print what a contact gives to friends."""
    with one_line_errors():
        body = {"who": who}
        found = call_api(
            current_environment(),
            "POST",
            "/admin/v1/referrals/codes",
            door="ORCHESTRATOR_URL",
            json=body,
        )
    typer.echo(json.dumps(found) if as_json else f"{found['code']}  {found['url']}")


@app.command("list")
def listing(
    limit: Annotated[int, typer.Option(help="How many at most.")] = 100, as_json: Json = False
) -> None:
    """List who came by whose code, those who came last first."""
    with one_line_errors():
        params = {"limit": limit}
        found = call_api(
            current_environment(),
            "GET",
            "/admin/v1/referrals",
            door="ORCHESTRATOR_URL",
            params=params,
        )
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = (
        (one["came_at"][:16], one["friend"], one["referrer"] or "-", one["status"], one["reason"])
        for one in found
    )
    Console().print(build_table("came", "friend", "sent by", "status", "why", rows=rows))
