"""`perigee source`: where touchpoints come from, and what their keys may do."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from cli.terminal import Json, environment, one_line_errors
from libs.common.db.connection import Session
from libs.common.durations import duration
from libs.common.errors import ConfigurationError
from services.ingest.handlers.sources import Given, SourcesDesk, Told
from services.ingest.tracker.script import policy, snippet

app = typer.Typer(help="Sources of touchpoints.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The source.")]
Trust = Annotated[str | None, typer.Option(help="public (browsers) or server.")]
Mode = Annotated[str | None, typer.Option(help="live, historical or test (stored, never scored).")]
UserHash = Annotated[str | None, typer.Option(help="new: demand userHash under a new secret; off: do not.")]
Origins = Annotated[
    list[str] | None, typer.Option("--origin", help="A page's origin that may send; 'any' lets all. May be repeated.")
]
Rate = Annotated[int | None, typer.Option(help="Messages a second; 0: no limit.")]
Defaults = Annotated[list[str] | None, typer.Option("--default", help="KEY=VALUE: a property of messages without it.")]


@app.command("create")
def create(  # noqa: PLR0913, PLR0917 - options of a command
    name: Name, trust: Trust = None, mode: Mode = None, user_hash: UserHash = None, origin: Origins = None,
    rate: Rate = None, default: Defaults = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Make a source and print its write key, once: only its hash is stored."""
    given = _given(trust, mode, user_hash, origin, rate, default)
    _run(lambda desk: desk.create(name, given), as_json)


@app.command("set")
def set_source(  # noqa: PLR0913, PLR0917
    name: Name, trust: Trust = None, mode: Mode = None, user_hash: UserHash = None, origin: Origins = None,
    rate: Rate = None, default: Defaults = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Change a source; doors take it over within seconds."""
    given = _given(trust, mode, user_hash, origin, rate, default)
    _run(lambda desk: desk.change(name, given), as_json)


@app.command("rotate")
def rotate(
    name: Name,
    overlap: Annotated[str, typer.Option(help="How long the old keys still hold: 1d, 2h, 0s.")] = "1d",
    as_json: Json = False,
) -> None:
    """Give a source a new write key, printed once; the old ones hold a while longer."""
    with one_line_errors():
        try:
            seconds = 0.0 if overlap in ("0", "0s") else duration(overlap) / 1_000_000
        except ValueError as error:
            raise ConfigurationError(f"--overlap {overlap}: {error}") from None
    _run(lambda desk: desk.rotate(name, seconds), as_json)


@app.command("revoke")
def revoke(
    name: Name,
    key: Annotated[str, typer.Option(help="The first characters of the key; all keys by default.")] = "",
    as_json: Json = False,
) -> None:
    """Take write keys back at once."""
    _run(lambda desk: desk.revoke(name, key), as_json)


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the sources. Keys are shown by their first characters."""
    with one_line_errors():
        found: list[Told] = asyncio.run(_with(lambda desk: desk.every()))
    if as_json:
        typer.echo(json.dumps([_plain(told) for told in found]))
        return
    table = Table("source", "trust", "mode", "userHash", "origins", "a second", "keys")
    for told in found:
        s = told.source
        table.add_row(
            s.name, s.trust, s.mode, "demanded" if s.user_hash_secret else "-", ", ".join(s.allowed_origins) or "any",
            str(s.per_second or "-"), ", ".join(f"{key.hint}…" + (" (ends)" if key.ends_at else "") for key in told.keys),
        )  # fmt: skip
    Console().print(table)


def _given(
    trust: str | None, mode: str | None, user_hash: str | None, origins: list[str] | None, rate: int | None,
    defaults: list[str] | None,
) -> Given:  # fmt: skip
    with one_line_errors():
        if user_hash not in (None, "new", "off"):
            raise ConfigurationError(f"--user-hash {user_hash}: new or off")
        properties = dict(_pair(one) for one in defaults) if defaults else None
    allowed = None if not origins else [] if origins == ["any"] else origins
    return Given(trust, mode, None if user_hash is None else user_hash == "new", allowed, rate, properties)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ConfigurationError(f"--default {text}: KEY=VALUE")
    return name, value


def _run(work: Callable[[SourcesDesk], Awaitable[Told]], as_json: bool) -> None:
    with one_line_errors():
        told = asyncio.run(_with(work))
    if as_json:
        typer.echo(json.dumps(_plain(told)))
        return
    typer.echo(f"source: {told.source.name} ({told.source.trust}, {told.source.mode})")
    for what, value in (("write key", told.write_key), ("userHash secret", told.user_hash_secret)):
        if value:
            typer.echo(f"{what}: {value}")
    typer.echo(f"keys that hold: {', '.join(key.hint + '…' for key in told.keys) or 'none'}")
    if told.write_key and told.source.trust == "public":
        door = environment().get("INGEST_URL", "https://YOUR-DOOR")
        typer.echo(f"\nfor a page's head:\n{snippet(door, told.write_key)}\n\nContent-Security-Policy: {policy(door)}")


def _plain(told: Told) -> dict[str, Any]:
    """Return what may be shown: the userHash secret only when it is new."""
    found: dict[str, Any] = msgspec.to_builtins(told)
    found["source"]["user_hash"] = found["source"].pop("user_hash_secret") is not None
    return found


async def _with(work: Callable[[SourcesDesk], Awaitable[Any]]) -> Any:
    session = Session(environment()["DATABASE_URL"], "perigee-source")
    try:
        return await work(SourcesDesk(session))
    finally:
        await session.close()
