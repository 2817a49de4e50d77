"""`perigee contact show`: a contact's timeline, scores and stage changes."""

from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from cli.api_client import call_api
from cli.terminal import format_instant
from libs.common.ids import WorkspaceId

MAX_ROWS = 40


def fetch_timeline(
    environment: dict[str, str], contact: str, workspace: WorkspaceId | None = None
) -> Any:
    """Return scoring's timeline of a contact, the newest 40 touchpoints. Raises PerigeeError."""
    return call_api(
        environment,
        "GET",
        f"/v1/contacts/{quote(contact, safe='')}/timeline",
        workspace=workspace,
        params={"limit": MAX_ROWS},
    )


def print_timeline(timeline: Any, console: Console) -> None:
    """Print identifiers, positions, stage changes and touchpoints."""
    refolding = " (refolding: its stages follow shortly)" if timeline["refolding"] else ""
    console.print(f"contact {timeline['contact_id']}{refolding}")
    console.print(
        f"  users {timeline['user_ids'] or '-'}, devices {timeline['anonymous_ids'] or '-'}",
        highlight=False,
    )
    for name, cycle in timeline["cycles"].items():
        _print_position(name, cycle, console)
        console.print(_moves_table(cycle["moves"]))
    for name in ("first", "last"):
        touch = timeline[f"{name}_touch"]
        if touch is not None:
            campaign = f", campaign {touch['campaign']}" if touch["campaign"] else ""
            console.print(
                f"  {name} touch: {format_instant(touch['at'])} "
                f"{touch['channel'] or 'other'}{campaign}",
                highlight=False,
            )
    console.print(_touchpoints_table(timeline["touchpoints"], timeline["touchpoint_count"]))


def _print_position(name: str, cycle: Any, console: Console) -> None:
    axes = ", ".join(f"{axis} {stage}" for axis, stage in cycle["axes"].items())
    dormant = ", dormant" if cycle["dormant"] else ""
    console.print(f"  {name}: [bold]{cycle['label']}[/] ({axes}{dormant})")
    scores = ", ".join(f"{score} {value:.1f}" for score, value in cycle["scores"].items())
    console.print(f"  scores now: {scores}", highlight=False)


def _moves_table(moves: list[Any]) -> Table:
    table = Table("when", "stage", "axes", "why", title="stages")
    for move in moves:
        stage = (
            move["after"]
            if move["before"] in (None, move["after"])
            else f"{move['before']} → {move['after']}"
        )
        if move["dormant"] and not move["was_dormant"]:
            stage += ", falls dormant"
        cause = "time passed" if move["cause"] is None else move["cause"]
        scores = ", ".join(f"{name} {value:.1f}" for name, value in move["scores"].items() if value)
        table.add_row(
            format_instant(move["at"]),
            stage,
            ", ".join(move["axes"]),
            f"{cause} ({scores})" if scores else cause,
        )
    return table


def _touchpoints_table(touchpoints: list[Any], count: int) -> Table:
    shown = f", the last {len(touchpoints)}" if count > len(touchpoints) else ""
    table = Table(
        "when", "touchpoint", "source", "campaign", "by", title=f"touchpoints ({count}{shown})"
    )
    for touchpoint in touchpoints:
        table.add_row(
            format_instant(touchpoint["at"]),
            f"{touchpoint['type']} {touchpoint['name']}",
            touchpoint["source"],
            touchpoint["campaign"],
            touchpoint["initiative"],
        )
    return table
