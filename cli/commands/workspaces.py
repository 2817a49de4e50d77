"""`perigee workspace` and `perigee key`: tenants, and their service and admin keys."""

import json
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api
from cli.terminal import Json, current_environment, one_line_errors
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.errors import ConfigurationError

workspaces = typer.Typer(
    help="Workspaces: tenants that see nothing of each other.", no_args_is_help=True
)
keys = typer.Typer(help="Service and admin keys of a workspace.", no_args_is_help=True)

Overlap = Annotated[str, typer.Option(help="How long the old keys stay valid: 1d, 2h, 0s.")]
Name = Annotated[str, typer.Argument(help="The key's purpose: crm, warehouse, ops …")]


@workspaces.command("create")
def create_workspace(name: Annotated[str, typer.Argument(help="The workspace.")]) -> None:
    """Create a workspace; 'perigee --workspace NAME …' then works in it."""
    with one_line_errors():
        _call("POST", "/workspaces", workspace=DEFAULT_WORKSPACE, json={"name": name})
    typer.echo(
        f"workspace {name}: 'perigee --workspace {name} source create …' gives it its first source"
    )


@workspaces.command("list")
def list_workspaces(as_json: Json = False) -> None:
    """List the workspaces."""
    with one_line_errors():
        names = _call("GET", "/workspaces", workspace=DEFAULT_WORKSPACE)
    typer.echo(json.dumps(names) if as_json else "\n".join(names))


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
    """Create a key and print it, once: only its hash is stored."""
    with one_line_errors():
        body = {"name": name, "kind": kind, "scopes": scope or []}
        key = _call("POST", "/keys", json=body)["key"]
    typer.echo(json.dumps({"key": key}) if as_json else f"key: {key}")


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the valid keys, by their first characters."""
    with one_line_errors():
        rows = _call("GET", "/keys")
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("key", "name", "kind", "may", "last used", "ends")
    for row in rows:
        used, ends = (
            moment[:19].replace("T", " ") if moment else "-"
            for moment in (row["last_used_at"], row["ends_at"])
        )
        table.add_row(
            f"{row['hint']}…", row["name"], row["kind"], ", ".join(row["scopes"]), used, ends
        )
    Console().print(table)


@keys.command("rotate")
def rotate(
    name: Name,
    overlap: Overlap = "1d",
    as_json: Json = False,
) -> None:
    """Give a name a new key, printed once; the old ones stay valid a while longer."""
    with one_line_errors():
        body = {"overlap": check_overlap(overlap)}
        key = _call("POST", f"/keys/{quote(name, safe='')}/rotate", json=body)["key"]
    typer.echo(json.dumps({"key": key}) if as_json else f"key: {key}")


@keys.command("revoke")
def revoke(
    name: Name,
    key: Annotated[str, typer.Option(help="The first characters of the key; all by default.")] = "",
) -> None:
    """End keys at once."""
    with one_line_errors():
        path = f"/keys/{quote(name, safe='')}"
        count = _call("DELETE", path, params={"hint": key})["revoked"]
    typer.echo(f"{count} keys of {name} are revoked")


def check_overlap(overlap: str) -> str:
    """Return an overlap that is a duration, or nothing (`0`, `0s`). Raises ConfigurationError."""
    from libs.common.durations import parse_overlap

    try:
        parse_overlap(overlap)
    except ValueError as error:
        raise ConfigurationError(f"--overlap {overlap}: {error}") from None
    return overlap


def _call(method: str, path: str, **options: Any) -> Any:
    return call_api(
        current_environment(), method, f"/admin/v1{path}", service="INGEST_URL", **options
    )
