"""`perigee outbox`: messages that the broker refused, and the rows of their keys that wait behind them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from cli.terminal import Json, current_environment, one_line_errors
from libs.common.errors import ConfigurationError

if TYPE_CHECKING:
    from libs.common.db.outbox_quarantine import QuarantinedRow

app = typer.Typer(help="Messages that the broker refused.", no_args_is_help=True)
T = TypeVar("T")
Service = Annotated[str, typer.Option(help="scoring or orchestrator.")]
Row = Annotated[int, typer.Argument(help="The row's id, as 'perigee outbox list' shows it.")]


def _run(service: str, work: Callable[[Any, Any, str], Awaitable[T]]) -> T:
    if service not in ("scoring", "orchestrator"):
        raise ConfigurationError(f"--service {service}: scoring or orchestrator")

    async def inside() -> T:
        from libs.common.db import outbox_quarantine
        from libs.common.db.connection import Session

        session = Session(current_environment()["DATABASE_URL"], "perigee-outbox")
        try:
            async with session.acquire() as connection:
                return await work(outbox_quarantine, connection, service)
        finally:
            await session.close()

    return asyncio.run(inside())


@app.command("list")
def listing(service: Service = "scoring", as_json: Json = False) -> None:
    """List refused rows, why, and how many rows of their key wait behind them."""
    with one_line_errors():
        rows: list[QuarantinedRow] = _run(
            service, lambda quarantine, *where: quarantine.refused(*where)
        )
    if as_json:
        typer.echo(msgspec.json.encode(rows))
        return
    if not rows:
        typer.echo(f"the broker refused nothing of {service}'s")
        return
    table = Table("row", "topic", "key", "bytes", "waiting behind", "error")
    for row in rows:
        behind = "skipped" if row.skipped else str(row.behind)
        table.add_row(str(row.id), row.topic, row.key, str(row.size), behind, row.error)
    Console().print(table)


@app.command("show")
def show(row: Row, service: Service = "scoring") -> None:
    """Print a refused row's value."""
    with one_line_errors():
        found: Any = _run(service, lambda quarantine, *where: quarantine.value(*where, row))
    typer.echo("(a tombstone)" if found is None else found)


@app.command("resend")
def resend(row: Row, service: Service = "scoring") -> None:
    """Let the relay try a row again, once what made the broker refuse it is mended."""
    with one_line_errors():
        _run(service, lambda quarantine, *where: quarantine.resend(*where, row))
    typer.echo(f"row {row} goes out again; 'perigee outbox list' shows it if it is refused again")


@app.command("skip")
def skip(row: Row, service: Service = "scoring") -> None:
    """Let the rows behind a refused one pass. Readers of its key will miss it; it stays in the table."""
    with one_line_errors():
        _run(service, lambda quarantine, *where: quarantine.skip(*where, row))
    typer.echo(f"row {row} is skipped; the rows behind it go out")
