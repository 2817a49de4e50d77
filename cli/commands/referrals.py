"""`perigee referral`: referral codes of contacts, and friends that came by a code."""

import json
from typing import Annotated

import typer
from rich.console import Console

from cli.api_client import call_api
from cli.terminal import (
    ContactArgument,
    Json,
    build_table,
    current_environment,
    one_line_errors,
)

app = typer.Typer(help="Referrals: codes, and friends that came by a code.", no_args_is_help=True)


@app.command("code")
def code(
    contact: ContactArgument,
    as_json: Json = False,
) -> None:
    """Print a contact's referral code and link."""
    with one_line_errors():
        body = {"who": contact}
        referral = call_api(
            current_environment(),
            "POST",
            "/admin/v1/referrals/codes",
            service="ORCHESTRATOR_URL",
            json=body,
        )
    typer.echo(json.dumps(referral) if as_json else f"{referral['code']}  {referral['url']}")


@app.command("list")
def listing(
    limit: Annotated[int, typer.Option(help="Largest number of rows.")] = 100, as_json: Json = False
) -> None:
    """List the friends that came by a code, the newest first."""
    with one_line_errors():
        params = {"limit": limit}
        friends = call_api(
            current_environment(),
            "GET",
            "/admin/v1/referrals",
            service="ORCHESTRATOR_URL",
            params=params,
        )
    if as_json:
        typer.echo(json.dumps(friends))
        return
    rows = (
        (
            friend["came_at"][:16],
            friend["friend"],
            friend["referrer"] or "-",
            friend["status"],
            friend["reason"],
        )
        for friend in friends
    )
    Console().print(build_table("came", "friend", "sent by", "status", "why", rows=rows))
