"""`perigee source`: where touchpoints come from, and what their keys may do."""

import asyncio
import json
import secrets
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.terminal import Json, environment, one_line_errors
from libs.common.db.connection import Connection, Session
from libs.common.errors import ConfigurationError
from services.ingest import repository

app = typer.Typer(help="Sources of touchpoints.", no_args_is_help=True)
_TRUST, _MODE, _HASH = ("public", "server"), ("live", "historical", "test"), ("new", "off")


@app.command("set")
def set_source(
    name: Annotated[str, typer.Argument(help="The source; it is made if there is none of the name.")],
    trust: Annotated[str | None, typer.Option(help="public (browsers) or server.")] = None,
    mode: Annotated[str | None, typer.Option(help="live, historical or test.")] = None,
    user_hash: Annotated[str | None, typer.Option(help="new: demand userHash under a new secret; off: do not.")] = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Replace the write key.")] = False,
) -> None:
    """Make or change a source. A new key or secret is printed once; ingest takes changes over within seconds."""
    with one_line_errors():
        for option, given, allowed in (
            ("trust", trust, _TRUST),
            ("mode", mode, _MODE),
            ("user-hash", user_hash, _HASH),
        ):
            if given is not None and given not in allowed:
                raise ConfigurationError(f"--{option} {given}: {', '.join(allowed)}")
        told = asyncio.run(_with(lambda c: _set(c, name, trust, mode, user_hash, new_key=new_key)))
    for what, value in told.items():
        typer.echo(f"{what}: {value}")


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the sources. Keys are not stored, only their hashes."""
    with one_line_errors():
        found = asyncio.run(_with(repository.every))
    rows = [
        {"source": s.name, "trust": s.trust, "mode": s.mode, "user_hash": s.user_hash_secret is not None} for s in found
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("source", "trust", "mode", "userHash")
    for row in rows:
        table.add_row(row["source"], row["trust"], row["mode"], "demanded" if row["user_hash"] else "-")
    Console().print(table)


async def _with(work: Any) -> Any:
    session = Session(environment()["DATABASE_URL"], "perigee-source")
    try:
        async with session.use() as connection, connection.transaction():
            return await work(connection)
    finally:
        await session.close()


async def _set(
    connection: Connection, name: str, trust: str | None, mode: str | None, user_hash: str | None, *, new_key: bool
) -> dict[str, str]:
    known = any(source.name == name for source in await repository.every(connection))
    told = {"source": f"{name} {'changed' if known else 'made'}"}
    if new_key or not known:
        told["write key"] = secrets.token_urlsafe(24)
        await repository.put(connection, name, told["write key"])
    await repository.change(connection, name, trust=trust, mode=mode)
    if user_hash is not None:
        secret = secrets.token_urlsafe(24) if user_hash == "new" else None
        await repository.demand_user_hash(connection, name, secret)
        told |= {"userHash secret": secret} if secret else {}
    return told
