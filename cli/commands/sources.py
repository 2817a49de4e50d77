"""`perigee source`: sources of touchpoints, and the permissions of their write keys."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
import yaml
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api
from cli.commands.workspaces import Overlap, check_overlap
from cli.terminal import Json, current_environment, one_line_errors
from libs.common.errors import ConfigurationError

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
    str | None,
    typer.Option(help="Format of another system, taken at /v1/hook/KEY; 'none': no adapter."),
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


def _add_command(
    command: str, summary: str, send: Callable[[str, dict[str, Any]], dict[str, Any]]
) -> None:
    """Add a command that sends the settings of a source; `create` and `set` take the same."""

    @app.command(command, help=summary)
    def change(  # noqa: PLR0913, PLR0917
        name: Name,
        trust: Trust = None,
        mode: Mode = None,
        user_hash: UserHash = None,
        origin: Origins = None,
        rate: Rate = None,
        default: Defaults = None,
        adapter: Adapter = None,
        signing_secret: Signing = None,
        adapter_settings: Settings = None,
        as_json: Json = False,
    ) -> None:
        with one_line_errors():
            changes = {
                **_options(trust, mode, user_hash, origin, rate, default),
                **_adapter_options(adapter, signing_secret, adapter_settings),
            }
            _print_source(send(name, changes), as_json=as_json)


_add_command(
    "create",
    "Create a source and print its write key, once: only its hash is stored.",
    lambda name, changes: _call("POST", "", json={"name": name, **changes}),
)
_add_command(
    "set",
    "Change a source; ingest applies the change within seconds.",
    lambda name, changes: _call("PATCH", f"/{quote(name, safe='')}", json=changes),
)


@app.command("rotate")
def rotate(
    name: Name,
    overlap: Overlap = "1d",
    as_json: Json = False,
) -> None:
    """Give a source a new write key, printed once; the old ones stay valid a while longer."""
    with one_line_errors():
        body = {"overlap": check_overlap(overlap)}
        source = _call("POST", f"/{quote(name, safe='')}/keys", json=body)
        _print_source(source, as_json=as_json)


@app.command("revoke")
def revoke(
    name: Name,
    key: Annotated[
        str, typer.Option(help="The first characters of the key; all keys by default.")
    ] = "",
    as_json: Json = False,
) -> None:
    """End write keys at once."""
    with one_line_errors():
        source = _call("DELETE", f"/{quote(name, safe='')}/keys", params={"hint": key})
        _print_source(source, as_json=as_json)


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the sources. Keys are shown by their first characters."""
    with one_line_errors():
        views = _call("GET", "")
    if as_json:
        typer.echo(json.dumps(views))
        return
    table = Table("source", "trust", "mode", "userHash", "origins", "a second", "keys", "last used")
    for view in views:
        source, keys = view["source"], view["keys"]
        table.add_row(
            source["name"],
            source["trust"],
            source["mode"],
            "demanded" if source["user_hash"] else "-",
            ", ".join(source["allowed_origins"]) or "any",
            str(source["per_second"] or "-"),
            ", ".join(f"{key['hint']}…" + (" (ends)" if key["ends_at"] else "") for key in keys),
            max(
                (key["last_used_at"][:16].replace("T", " ") for key in keys if key["last_used_at"]),
                default="-",
            ),
        )
    Console().print(table)


def _options(
    trust: str | None,
    mode: str | None,
    user_hash: str | None,
    origins: list[str] | None,
    rate: int | None,
    defaults: list[str] | None,
) -> dict[str, Any]:
    """Return the changes that the options ask for, as the API takes them.

    Raises ConfigurationError.
    """
    if user_hash not in (None, "new", "off"):
        raise ConfigurationError(f"--user-hash {user_hash}: new or off")
    changes = {
        "trust": trust,
        "mode": mode,
        "user_hash": None if user_hash is None else user_hash == "new",
        "allowed_origins": [] if origins == ["any"] else origins or None,
        "per_second": rate,
        "defaults": dict(_parse_default(text) for text in defaults) if defaults else None,
    }
    return {name: value for name, value in changes.items() if value is not None}


def _adapter_options(
    adapter: str | None, secret: Path | None, settings: Path | None
) -> dict[str, Any]:
    """Return the adapter's changes, with the contents of the files. Raises ConfigurationError."""
    try:
        changes = {
            "adapter": "" if adapter == "none" else adapter,
            "signing_secret": secret.read_text().strip() if secret else None,
            "adapter_settings": yaml.safe_load(settings.read_text()) if settings else None,
        }
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{settings} is no YAML: {error}") from None
    return {name: value for name, value in changes.items() if value is not None}


def _parse_default(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ConfigurationError(f"--default {text}: KEY=VALUE")
    return name, value


def _print_source(view: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(view))
        return
    source, write_key = view["source"], view["write_key"]
    typer.echo(f"source: {source['name']} ({source['trust']}, {source['mode']})")
    for label, value in (("write key", write_key), ("userHash secret", view["user_hash_secret"])):
        if value:
            typer.echo(f"{label}: {value}")
    hints = ", ".join(key["hint"] + "…" for key in view["keys"])
    typer.echo(f"valid keys: {hints or 'none'}")
    url = current_environment()["INGEST_URL"]
    if write_key and source["adapter"]:
        typer.echo(f"the address for {source['adapter']}: {url}/v1/hook/{write_key}")
    if write_key and source["trust"] == "public":
        environment = current_environment()
        tracker = call_api(
            environment, "GET", "/admin/v1/tracker", service="INGEST_URL", params={"url": url}
        )
        typer.echo(
            f"\nfor a page's head:\n{tracker['html'].replace('WRITE_KEY', write_key)}"
            f"\n\nContent-Security-Policy: {tracker['content_security_policy']}"
        )


def _call(method: str, path: str, **options: Any) -> Any:
    return call_api(
        current_environment(), method, f"/admin/v1/sources{path}", service="INGEST_URL", **options
    )
