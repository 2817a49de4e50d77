"""`perigee source`: where touchpoints come from, and what their keys may do."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
import yaml
from rich.console import Console
from rich.table import Table

from cli.commands.workspaces import seconds_of
from cli.terminal import Json, current_environment, current_workspace, one_line_errors
from libs.common.errors import ConfigurationError

if TYPE_CHECKING:
    from services.ingest.handlers.sources import SourceChanges, SourceService, SourceView

app = typer.Typer(help="Sources of touchpoints.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The source.")]
Trust = Annotated[str | None, typer.Option(help="public (browsers) or server.")]
Mode = Annotated[str | None, typer.Option(help="live, historical or test (stored, never scored).")]
UserHash = Annotated[
    str | None, typer.Option(help="new: demand userHash under a new secret; off: do not.")
]
Origins = Annotated[
    list[str] | None,
    typer.Option(
        "--origin", help="A page's origin that may send; 'any' lets all. May be repeated."
    ),
]
Rate = Annotated[int | None, typer.Option(help="Messages a second; 0: no limit.")]
Adapter = Annotated[
    str | None, typer.Option(help="Whose shape it takes at /v1/hook/KEY; 'none': no other's.")
]
Signing = Annotated[
    Path | None,
    typer.Option(
        "--signing-secret",
        help="A file with the secret, or key, that the adapter's sender signs with.",
    ),
]
Settings = Annotated[
    Path | None,
    typer.Option(
        "--adapter-settings", help="A YAML file: a webhook's mapping, a CRM's {integration: ID}."
    ),
]
Defaults = Annotated[
    list[str] | None,
    typer.Option("--default", help="KEY=VALUE: a property of messages without it."),
]


@app.command("create")
def create(  # noqa: PLR0913, PLR0917
    name: Name, trust: Trust = None, mode: Mode = None, user_hash: UserHash = None, origin: Origins = None,
    rate: Rate = None, default: Defaults = None, adapter: Adapter = None, signing_secret: Signing = None,
    adapter_settings: Settings = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Make a source and print its write key, once: only its hash is stored."""
    given = _given(trust, mode, user_hash, origin, rate, default)
    given = _adapted(given, adapter, signing_secret, adapter_settings)
    _run(lambda desk: desk.create(current_workspace(), name, given), as_json)


@app.command("set")
def set_source(  # noqa: PLR0913, PLR0917
    name: Name, trust: Trust = None, mode: Mode = None, user_hash: UserHash = None, origin: Origins = None,
    rate: Rate = None, default: Defaults = None, adapter: Adapter = None, signing_secret: Signing = None,
    adapter_settings: Settings = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Change a source; doors take it over within seconds."""
    given = _given(trust, mode, user_hash, origin, rate, default)
    given = _adapted(given, adapter, signing_secret, adapter_settings)
    _run(lambda desk: desk.update(current_workspace(), name, given), as_json)


@app.command("rotate")
def rotate(
    name: Name,
    overlap: Annotated[
        str, typer.Option(help="How long the old keys still hold: 1d, 2h, 0s.")
    ] = "1d",
    as_json: Json = False,
) -> None:
    """Give a source a new write key, printed once; the old ones hold a while longer."""
    with one_line_errors():
        seconds = seconds_of(overlap)
    _run(lambda desk: desk.rotate(current_workspace(), name, seconds), as_json)


@app.command("revoke")
def revoke(
    name: Name,
    key: Annotated[
        str, typer.Option(help="The first characters of the key; all keys by default.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Take write keys back at once."""
    _run(lambda desk: desk.revoke(current_workspace(), name, key), as_json)


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the sources. Keys are shown by their first characters."""
    with one_line_errors():
        found: list[SourceView] = asyncio.run(
            _with(lambda desk: desk.list_sources(current_workspace()))
        )
    if as_json:
        typer.echo(json.dumps([told.to_document() for told in found]))
        return
    table = Table("source", "trust", "mode", "userHash", "origins", "a second", "keys", "last used")
    for told in found:
        s = told.source
        table.add_row(
            s.name, s.trust, s.mode, "demanded" if s.user_hash_secret else "-", ", ".join(s.allowed_origins) or "any",
            str(s.per_second or "-"), ", ".join(f"{key.hint}…" + (" (ends)" if key.ends_at else "") for key in told.keys),
            max((str(key.last_used_at)[:16] for key in told.keys if key.last_used_at), default="-"),
        )  # fmt: skip
    Console().print(table)


def _given(
    trust: str | None, mode: str | None, user_hash: str | None, origins: list[str] | None, rate: int | None,
    defaults: list[str] | None,
) -> "SourceChanges":  # fmt: skip
    from services.ingest.handlers.sources import SourceChanges

    with one_line_errors():
        if user_hash not in (None, "new", "off"):
            raise ConfigurationError(f"--user-hash {user_hash}: new or off")
        properties = dict(_pair(one) for one in defaults) if defaults else None
    allowed = None if not origins else [] if origins == ["any"] else origins
    return SourceChanges(
        trust, mode, None if user_hash is None else user_hash == "new", allowed, rate, properties
    )


def _adapted(
    given: "SourceChanges", adapter: str | None, secret: Path | None, settings: Path | None
) -> "SourceChanges":
    with one_line_errors():
        try:
            return msgspec.structs.replace(
                given,
                adapter="" if adapter == "none" else adapter,
                signing_secret=secret.read_text().strip() if secret else None,
                adapter_settings=yaml.safe_load(settings.read_text()) if settings else None,
            )
        except OSError as error:
            raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{settings} is no YAML: {error}") from None


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ConfigurationError(f"--default {text}: KEY=VALUE")
    return name, value


def _run(work: Callable[["SourceService"], Awaitable["SourceView"]], as_json: bool) -> None:
    from services.ingest.tracker.script import content_security_policy, html_snippet

    with one_line_errors():
        told = asyncio.run(_with(work))
    if as_json:
        typer.echo(json.dumps(told.shown()))
        return
    typer.echo(f"source: {told.source.name} ({told.source.trust}, {told.source.mode})")
    for what, value in (("write key", told.write_key), ("userHash secret", told.user_hash_secret)):
        if value:
            typer.echo(f"{what}: {value}")
    typer.echo(f"keys that hold: {', '.join(key.hint + '…' for key in told.keys) or 'none'}")
    door = current_environment().get("INGEST_URL", "https://YOUR-DOOR")
    if told.write_key and told.source.adapter:
        typer.echo(f"the address for {told.source.adapter}: {door}/v1/hook/{told.write_key}")
    if told.write_key and told.source.trust == "public":
        typer.echo(
            f"\nfor a page's head:\n{html_snippet(door, told.write_key)}\n\nContent-Security-Policy: {content_security_policy(door)}"
        )


async def _with(work: Callable[["SourceService"], Awaitable[Any]]) -> Any:
    from libs.common.db.connection import Session
    from services.ingest.handlers.sources import SourceService

    session = Session(current_environment()["DATABASE_URL"], "perigee-source")
    try:
        return await work(SourceService(session))
    finally:
        await session.close()
