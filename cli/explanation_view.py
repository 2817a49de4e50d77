"""`perigee contact explain`: every point and every stage, with its cause."""

from collections import Counter
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from cli.api_client import call_api
from cli.terminal import parse_instant
from libs.common.instants import to_datetime

SHOWN = 12


def fetch_explanation(
    environment: dict[str, str], who: str, cycle: str | None, at: str | None
) -> Any:
    """Ask scoring's door. Raises PerigeeError."""
    wanted = {"cycle": cycle, "at": parse_instant(at)}
    params = {name: value for name, value in wanted.items() if value is not None}
    return call_api(
        environment, "GET", f"/v1/contacts/{quote(who, safe='')}/explain", params=params
    )


def print_explanation(found: Any, console: Console) -> None:
    """Print an explanation."""
    console.print(f"contact {found['contact_id']} at {_when(found['at'])}", highlight=False)
    for name, told in found["cycles"].items():
        dormant = ", dormant" if told["dormant"] else ""
        console.print(
            f"\n[bold]{name}[/] version {told['version']}: [bold]{told['stage']}[/]{dormant}, "
            f"margin {told['confidence']:.2f} (1 newly entered, 0 about to fall)",
            highlight=False,
        )
        _axes(told["axes"], console)
        _scores(told["scores"], console)
        _moves("so far", told["moves"][-SHOWN:], console)
        _moves("if nothing happens", told["ahead"][:SHOWN], console)


def _axes(axes: Any, console: Console) -> None:
    table = Table("axis", "stage", "since", "held by", "margin", "because", "next stage lacks")
    for name, axis in axes.items():
        lacks = "; ".join(map(_atom, axis["missing"]))
        table.add_row(
            name, axis["stage"], _when(axis["since"]), axis["held_by"], f"{axis['confidence']:.2f}",
            _condition(axis["condition"]), f"{axis['next_stage']}: {lacks}" if lacks else "",
        )  # fmt: skip
    console.print(table)


def _scores(scores: Any, console: Console) -> None:
    table = Table("score", "now", "from")
    for name, score in scores.items():
        worth: Counter[str] = Counter()
        count: Counter[str] = Counter()
        for contribution in score["contributions"]:
            worth[contribution["signal"]] += contribution["worth"]
            count[contribution["signal"]] += 1
        parts = ", ".join(
            f"{signal} {count[signal]}x = {left:.2f}" for signal, left in worth.most_common()
        )
        table.add_row(name, f"{score['value']:.2f}", parts)
    console.print(table)


def _moves(title: str, moves: Any, console: Console) -> None:
    if not moves:
        return
    table = Table("when", "to", "axes", "cause", title=title)
    for _version, _seq, at, timed, source, message_id, _before, after, _values in moves:
        stage, places, dormant, _instance = after
        cause = "time" if timed else f"{source}:{message_id}"
        table.add_row(_when(at), stage + (", dormant" if dormant else ""), ", ".join(places), cause)
    console.print(table)


def _condition(reading: Any) -> str:
    """Return a condition that was read, in one line; what does not hold is marked."""
    if reading is None:
        return "-"
    for kind in ("all", "any"):
        if kind in reading:
            return (
                "("
                + {"all": " and ", "any": " or "}[kind].join(map(_condition, reading[kind]))
                + ")"
            )
    if "not" in reading:
        return f"not {_condition(reading['not'])}"
    return _atom(reading)


def _atom(reading: Any) -> str:
    value = reading["value"]
    if isinstance(value, float):
        value = f"{value:.2f}"
    if "seen" in reading or "silent" in reading:
        value = "never" if value is None else f"last {_when(value)}"
    said = " ".join(
        f"{k} {v}" for k, v in reading.items() if k not in ("value", "holds") and v is not None
    )
    return f"{'' if reading['holds'] else '✗ '}{said} ({value})"


def _when(microseconds: int) -> str:
    return to_datetime(microseconds).strftime("%Y-%m-%d %H:%M:%S")
