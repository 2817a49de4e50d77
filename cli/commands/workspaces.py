"""`perigee workspace` and `perigee key`: tenants, and who opens their doors."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from cli.terminal import Json, current_environment, current_workspace, one_line_errors
from libs.common.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from libs.common.db.api_keys import ApiKey

workspaces = typer.Typer(
    help="Workspaces: tenants that see nothing of each other.", no_args_is_help=True
)
keys = typer.Typer(help="Service and admin keys of a workspace.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="What the key is for: crm, warehouse, ops …")]


@workspaces.command("create")
def create_workspace(name: Annotated[str, typer.Argument(help="The current_workspace.")]) -> None:
    """Make a workspace; 'perigee --workspace NAME …' then works in it."""
    _run(lambda access, connection: access.create_workspace(connection, name))
    typer.echo(
        f"workspace {name}: 'perigee --workspace {name} source create …' gives it its first source"
    )


@workspaces.command("list")
def list_workspaces(as_json: Json = False) -> None:
    """List the workspaces."""
    found = _run(lambda access, connection: access.workspaces(connection))
    typer.echo(json.dumps(found) if as_json else "\n".join(found))


@keys.command("create")
def create_key(
    name: Name,
    kind: Annotated[
        Literal["service", "admin"], typer.Option(help="service reads, admin changes.")
    ] = "service",
    scope: Annotated[
        list[str] | None, typer.Option(help="Only this; repeatable. All of its kind by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, once: only its hash is stored."""
    key = _run(
        lambda access, connection: access.create_key(
            connection, current_workspace(), name, kind, tuple(scope or ())
        )
    )
    typer.echo(json.dumps({"key": key}) if as_json else f"key: {key}")


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the keys that hold, by their first characters."""
    found: list[ApiKey] = _run(
        lambda access, connection: access.keys(connection, current_workspace())
    )
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    table = Table("key", "name", "kind", "may", "last used", "ends")
    for one in found:
        used, ends = (
            str(moment)[:19] if moment else "-" for moment in (one.last_used_at, one.ends_at)
        )
        table.add_row(f"{one.hint}…", one.name, one.kind, ", ".join(one.scopes), used, ends)
    Console().print(table)


@keys.command("rotate")
def rotate(
    name: Name,
    overlap: Annotated[
        str, typer.Option(help="How long the old keys still hold: 1d, 2h, 0s.")
    ] = "1d",
    as_json: Json = False,
) -> None:
    """Give a name a new key, printed once; the old ones hold a while longer."""
    with one_line_errors():
        seconds = seconds_of(overlap)
    key = _run(
        lambda access, connection: access.rotate_key(connection, current_workspace(), name, seconds)
    )
    typer.echo(json.dumps({"key": key}) if as_json else f"key: {key}")


@keys.command("revoke")
def revoke(
    name: Name,
    key: Annotated[str, typer.Option(help="The first characters of the key; all by default.")] = "",
) -> None:
    """Take keys back at once."""

    async def end(access: Any, connection: Any) -> int:
        count: int = await access.end_keys(connection, current_workspace(), name, 0, key)
        if not count:
            raise NotFound(
                f"workspace {current_workspace()} has no key named {name!r} that begins with {key!r} and holds"
            )
        return count

    typer.echo(f"{_run(end)} keys of {name} are taken back")


def seconds_of(overlap: str) -> float:
    """Return the seconds of an overlap as a person writes it. Raises ConfigurationError."""
    from libs.common.durations import parse_duration

    try:
        return 0.0 if overlap in ("0", "0s") else parse_duration(overlap) / 1_000_000
    except ValueError as error:
        raise ConfigurationError(f"--overlap {overlap}: {error}") from None


def _run(work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Do the work with libs.common.db.api_keys and a connection, in one transaction."""
    with one_line_errors():
        return asyncio.run(_with(work))


async def _with(work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    from libs.common.db import api_keys
    from libs.common.db.connection import Session
    from libs.common.db.unit_of_work import unit_of_work

    session = Session(current_environment()["DATABASE_URL"], "perigee-access")
    try:
        async with session.acquire() as connection, unit_of_work(connection):
            return await work(api_keys, connection)
    finally:
        await session.close()
