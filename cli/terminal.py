"""Helpers of all commands: errors, progress, tables, the environment."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from cli.home import Home
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.errors import ConfigurationError, PerigeeError
from libs.common.instants import from_iso, to_datetime

progress = Console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ContactArgument = Annotated[
    str,
    typer.Argument(help="Contact id, identifier (user_id:alice, external:crm:7) or e-mail."),
]
_ADDRESSES = ("DATABASE_URL", "INGEST_URL", "SCORING_URL", "ORCHESTRATOR_URL")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a known error as one red line; exit with code 1."""
    try:
        yield
    except PerigeeError as error:
        progress.print(
            f"perigee: {error}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        raise typer.Exit(1) from None


def parse_instant(text: str | None) -> int | None:
    """Return the instant of an option, in microseconds UTC. Raises ConfigurationError."""
    try:
        return None if text is None else from_iso(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no time: write it as RFC 3339, e.g. 2026-11-22T09:30:00Z"
        ) from None


def format_instant(instant: int) -> str:
    """Return an instant (microseconds UTC) to the second, e.g. 2026-11-22 09:30:00."""
    return to_datetime(instant).strftime("%Y-%m-%d %H:%M:%S")


def build_table(*headings: str, rows: Iterable[Iterable[str]], title: str | None = None) -> Table:
    """Return a table of free text: brackets are no markup, and long cells are folded."""
    table = Table(*(Column(heading, overflow="fold") for heading in headings), title=title)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def current_workspace() -> str:
    """Return the workspace that commands work in: `--workspace`, or PERIGEE_WORKSPACE."""
    return os.environ.get("PERIGEE_WORKSPACE") or DEFAULT_WORKSPACE


def print_progress(text: str) -> None:
    """Print a line of progress to standard error."""
    progress.print(f"  {text}", style="dim", markup=False, highlight=False, soft_wrap=True)


def current_stack() -> Any:
    """Return the instance of this home."""
    from cli.stack import InstanceStack

    return InstanceStack(Home.from_environment())


def current_environment() -> dict[str, str]:
    """Return the shell's environment, with the running instance's addresses and keys.

    Raises PerigeeError without either.
    """
    stack = current_stack()
    if stack.home.exists:
        instance: dict[str, str] = stack.environment()
        return {**os.environ, **instance}
    if not any(name in os.environ for name in _ADDRESSES):
        raise PerigeeError(
            f"nothing was started in {stack.home.folder}: run 'perigee up', or set DATABASE_URL"
        )
    return dict(os.environ)
