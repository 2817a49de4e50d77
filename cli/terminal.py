"""What every command shares: one-line errors, the instance's environment, where progress is said."""

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
from libs.common.instants import from_iso

progress = Console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a known error into one red line and exit code 1."""
    try:
        yield
    except PerigeeError as error:
        progress.print(
            f"perigee: {error}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        raise typer.Exit(1) from None


def parse_instant(text: str | None) -> int | None:
    """Return the instant that an option means, in microseconds UTC. Raises ConfigurationError."""
    try:
        return None if text is None else from_iso(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no time: write it as RFC 3339, e.g. 2026-11-22T09:30:00Z"
        ) from None


def build_table(*headings: str, rows: Iterable[Iterable[str]], title: str | None = None) -> Table:
    """Return a table of what people wrote: no bracket in it is markup, and nothing is cut off."""
    table = Table(*(Column(heading, overflow="fold") for heading in headings), title=title)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def current_workspace() -> str:
    """Return the workspace that commands are about: `--workspace`, or PERIGEE_WORKSPACE."""
    return os.environ.get("PERIGEE_WORKSPACE") or DEFAULT_WORKSPACE


def print_progress(text: str) -> None:
    """Say what is going on."""
    progress.print(f"  {text}", style="dim", markup=False, highlight=False, soft_wrap=True)


def current_stack() -> Any:
    """Return the instance of this home."""
    from cli.stack import InstanceStack

    return InstanceStack(Home.from_environment())


def current_environment() -> dict[str, str]:
    """Return the running instance's environment, overridden by what the shell says."""
    found = current_stack()
    if found.home.exists:
        kept: dict[str, str] = found.environment()
        return {**os.environ, **kept}
    if "DATABASE_URL" not in os.environ:
        raise PerigeeError(
            f"nothing was started in {found.home.folder}: run 'perigee up', or set DATABASE_URL"
        )
    return dict(os.environ)
