"""`perigee switch`: channels stopped at once, and let go on."""

from typing import Annotated
from urllib.parse import quote

import typer

from cli.api_client import call_api, current_author
from cli.terminal import current_environment, one_line_errors

app = typer.Typer(help="Stop a channel at once, and let it go on.", no_args_is_help=True)
Channel = Annotated[str, typer.Argument(help="email, webhook, slack; * for all.")]


@app.command("off")
def off(channel: Channel = "*") -> None:
    """Stop a channel: due actions are kept back, nothing is lost."""
    with one_line_errors():
        call_api(
            current_environment(),
            "POST",
            "/admin/v1/switches",
            service="ORCHESTRATOR_URL",
            json={"channel": channel, "author": current_author()},
        )
    typer.echo(f"{channel}: nothing goes out; 'perigee switch on {channel}' lets it go on")


@app.command("on")
def on(channel: Channel = "*") -> None:
    """Let a channel go on: actions that were kept back go out."""
    with one_line_errors():
        call_api(
            current_environment(),
            "DELETE",
            f"/admin/v1/switches/{quote(channel, safe='')}",
            service="ORCHESTRATOR_URL",
        )
    typer.echo(f"{channel}: goes on")


@app.command("list")
def stopped() -> None:
    """List the stopped channels."""
    with one_line_errors():
        channels = call_api(
            current_environment(), "GET", "/admin/v1/switches", service="ORCHESTRATOR_URL"
        )
    typer.echo("\n".join(channels) if channels else "no channel is stopped")
