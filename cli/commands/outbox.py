"""`perigee outbox`: messages that the broker refused, and rows that wait behind them."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import ServiceVariable, call_api
from cli.terminal import Json, current_environment, one_line_errors
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.errors import ConfigurationError

app = typer.Typer(help="Messages that the broker refused.", no_args_is_help=True)
Service = Annotated[str, typer.Option(help="scoring or orchestrator.")]
Row = Annotated[int, typer.Argument(help="The row's id, as 'perigee outbox list' shows it.")]
_SERVICES: dict[str, ServiceVariable] = {
    "scoring": "SCORING_URL",
    "orchestrator": "ORCHESTRATOR_URL",
}


@app.command("list")
def listing(service: Service = "scoring", as_json: Json = False) -> None:
    """List refused rows, the broker's error, and how many rows of their key wait behind them."""
    with one_line_errors():
        rows = _call(service, "GET", "")
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo(f"the broker refused nothing of {service}'s")
        return
    table = Table("row", "topic", "key", "bytes", "waiting behind", "error")
    for row in rows:
        behind = "skipped" if row["skipped"] else str(row["behind"])
        table.add_row(
            str(row["id"]), row["topic"], row["key"], str(row["size"]), behind, row["error"]
        )
    Console().print(table)


@app.command("show")
def show(row: Row, service: Service = "scoring") -> None:
    """Print a refused row's value."""
    with one_line_errors():
        value = _call(service, "GET", f"/{row}")["value"]
    typer.echo("(a tombstone)" if value is None else value)


@app.command("resend")
def resend(row: Row, service: Service = "scoring") -> None:
    """Let the relay try a row again, after the cause of the refusal is removed."""
    with one_line_errors():
        _call(service, "POST", f"/{row}/resend")
    typer.echo(f"row {row} goes out again; 'perigee outbox list' shows it if it is refused again")


@app.command("skip")
def skip(row: Row, service: Service = "scoring") -> None:
    """Let the rows behind a refused one pass. Readers of its key miss it; it stays in the table."""
    with one_line_errors():
        _call(service, "POST", f"/{row}/skip")
    typer.echo(f"row {row} is skipped; the rows behind it go out")


def _call(service: str, method: str, path: str) -> Any:
    if service not in _SERVICES:
        raise ConfigurationError(f"--service {service}: scoring or orchestrator")
    return call_api(
        current_environment(),
        method,
        f"/admin/v1/{service}/outbox{path}",
        service=_SERVICES[service],
        workspace=DEFAULT_WORKSPACE,
    )
