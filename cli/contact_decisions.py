"""`perigee contact why-not`, `perigee contact allow`: what was decided about a contact, and letting them be written to again."""

import json
from urllib.parse import quote

import typer
from rich.console import Console

from cli.api_client import call_api
from cli.terminal import build_table


def print_decisions(environment: dict[str, str], who: str, *, as_json: bool) -> None:
    """Print what was decided about a contact."""
    found = call_api(environment, "GET", f"/admin/v1/why/{_quoted(who)}", door="ORCHESTRATOR_URL")
    if as_json:
        typer.echo(json.dumps(found))
        return
    console = Console()
    console.print(f"contact {found['contact_id']}", highlight=False)
    told = [
        f"{purpose} {'allowed' if given else 'refused'}"
        for purpose, given in found["consents"].items()
    ]
    told += [f"no {channel}: {why}" for channel, why in found["suppressed"].items()]
    console.print(
        "  " + (", ".join(told) or "no consent was ever given or refused"), highlight=False
    )
    runs = (
        (
            one["play"],
            str(one["version"]),
            one["entered_at"][:16],
            one["status"],
            one["reason"],
            str(one["due_at"] or "-")[:16],
        )
        for one in found["plays"]
    )
    console.print(
        build_table("play", "version", "entered", "status", "why", "next look", rows=runs)
    )
    decisions = (
        (
            one["at"][:16],
            f"{one['play']}.{one['step']}",
            one["channel"],
            one["status"],
            one["reason"],
        )
        for one in found["decisions"]
    )
    console.print(build_table("when", "what", "channel", "status", "why", rows=decisions))


def delete_suppression(environment: dict[str, str], who: str, channel: str) -> None:
    """Let a channel be used again for a contact."""
    call_api(
        environment,
        "DELETE",
        f"/admin/v1/suppressions/{_quoted(who)}/{_quoted(channel)}",
        door="ORCHESTRATOR_URL",
    )
    typer.echo(f"{who} may get {channel} again")


def _quoted(name: str) -> str:
    return quote(name, safe="")
