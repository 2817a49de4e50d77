"""`perigee contact explain`: every point and every stage, with its cause."""

from collections import Counter
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from cli.api_client import call_api
from cli.terminal import format_instant, parse_instant

MAX_MOVES = 12


def fetch_explanation(
    environment: dict[str, str], contact: str, cycle: str | None, at: str | None
) -> Any:
    """Return scoring's explanation of a contact. Raises PerigeeError."""
    options = {"cycle": cycle, "at": parse_instant(at)}
    params = {name: value for name, value in options.items() if value is not None}
    return call_api(
        environment, "GET", f"/v1/contacts/{quote(contact, safe='')}/explain", params=params
    )


def print_explanation(explanation: Any, console: Console) -> None:
    """Print an explanation, cycle by cycle."""
    console.print(
        f"contact {explanation['contact_id']} at {format_instant(explanation['at'])}",
        highlight=False,
    )
    for name, cycle in explanation["cycles"].items():
        dormant = ", dormant" if cycle["dormant"] else ""
        console.print(
            f"\n[bold]{name}[/] version {cycle['version']}: [bold]{cycle['stage']}[/]{dormant}, "
            f"margin {cycle['confidence']:.2f} (1 newly entered, 0 about to fall)",
            highlight=False,
        )
        _print_axes(cycle["axes"], console)
        _print_scores(cycle["scores"], console)
        _print_moves("so far", cycle["moves"][-MAX_MOVES:], console)
        _print_moves("if nothing happens", cycle["ahead"][:MAX_MOVES], console)


def _print_axes(axes: Any, console: Console) -> None:
    table = Table("axis", "stage", "since", "kept by", "margin", "because", "next stage lacks")
    for name, axis in axes.items():
        lacks = "; ".join(map(_atom, axis["missing"]))
        table.add_row(
            name,
            axis["stage"],
            format_instant(axis["since"]),
            axis["held_by"],
            f"{axis['confidence']:.2f}",
            _condition(axis["condition"]),
            f"{axis['next_stage']}: {lacks}" if lacks else "",
        )
    console.print(table)


def _print_scores(scores: Any, console: Console) -> None:
    table = Table("score", "now", "from")
    for name, score in scores.items():
        points: Counter[str] = Counter()
        count: Counter[str] = Counter()
        for contribution in score["contributions"]:
            points[contribution["signal"]] += contribution["worth"]
            count[contribution["signal"]] += 1
        parts = ", ".join(
            f"{signal} {count[signal]}x = {worth:.2f}" for signal, worth in points.most_common()
        )
        table.add_row(name, f"{score['value']:.2f}", parts)
    console.print(table)


def _print_moves(title: str, moves: Any, console: Console) -> None:
    if not moves:
        return
    table = Table("when", "to", "axes", "cause", title=title)
    for _version, _seq, at, timed, source, message_id, _before, after, _values in moves:
        stage, places, dormant, _instance = after
        cause = "time" if timed else f"{source}:{message_id}"
        table.add_row(
            format_instant(at), stage + (", dormant" if dormant else ""), ", ".join(places), cause
        )
    console.print(table)


def _condition(reading: Any) -> str:
    """Return an evaluated condition in one line; a part that does not hold has a mark."""
    if reading is None:
        return "-"
    for kind, conjunction in (("all", " and "), ("any", " or ")):
        if kind in reading:
            return f"({conjunction.join(map(_condition, reading[kind]))})"
    if "not" in reading:
        return f"not {_condition(reading['not'])}"
    return _atom(reading)


def _atom(reading: Any) -> str:
    value = reading["value"]
    if isinstance(value, float):
        value = f"{value:.2f}"
    if "seen" in reading or "silent" in reading:
        value = "never" if value is None else f"last {format_instant(value)}"
    text = " ".join(
        f"{name} {part}"
        for name, part in reading.items()
        if name not in ("value", "holds") and part is not None
    )
    return f"{'' if reading['holds'] else '✗ '}{text} ({value})"
