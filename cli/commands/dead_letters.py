"""`perigee dlq` and `perigee live`: what was refused and why, and what comes in."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, current_author, stream_events
from cli.terminal import Json, current_environment, one_line_errors, parse_instant
from libs.common.errors import ConfigurationError
from services.ingest.domain.dead_letter import format_instant

app = typer.Typer(
    help="Dead letters: what was refused, and how it is repaired.", no_args_is_help=True
)

Service = Annotated[str, typer.Option(help="ingest, scoring or orchestrator.")]
Reason = Annotated[str, typer.Option(help="Only this reason: no_ids, bad_time …")]
Where = Annotated[str, typer.Option("--source", help="Only where this source sent it.")]
Text = Annotated[str, typer.Option(help="Only letters that hold this text.")]
Since = Annotated[str | None, typer.Option(help="Only those since then: 2026-11-22T09:30:00Z.")]
Numbers = Annotated[
    list[str] | None, typer.Argument(help="Letters, as 'perigee dlq list' numbers them.")
]
Every = Annotated[bool, typer.Option("--all", help="All that the filters choose.")]
Note = Annotated[str, typer.Option(help="Why.")]
Repairs = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="PLACE=VALUE, put into each call before: userId=42, context.mode=historical. May be given again.",
    ),
]
SHOWN = 100


def _query(service: str, reason: str, where: str, text: str, since: str | None) -> dict[str, Any]:
    filters = {"service": service, "reason": reason, "where": where, "text": text}
    return {**filters, "since": parse_instant(since) or 0}


@app.command("list")
def listing(
    service: Service = "ingest", reason: Reason = "", where: Where = "", text: Text = "", since: Since = None,
    marked: Annotated[bool, typer.Option("--marked", help="Also those that were replayed or dropped.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """List dead letters, oldest first."""
    with one_line_errors():
        query = {**_query(service, reason, where, text, since), "marked": marked, "limit": SHOWN}
        found = call_api(
            current_environment(), "GET", "/admin/v1/dlq", door="INGEST_URL", params=query
        )
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found["letters"]:
        typer.echo(f"no dead letters of {service}")
        return
    table = Table("number", "refused at", "reason", "where", "error", "mark")
    for one in found["letters"]:
        table.add_row(
            one["number"],
            format_instant(one["refused_at"]),
            one["reason"],
            one["where"],
            one["error"],
            one["mark"],
        )
    Console().print(table)
    if found["all"] > len(found["letters"]):
        typer.echo(
            f"{found['all'] - len(found['letters']):,} more: narrow it with --reason, --source, --since, --text"
        )


@app.command("show")
def show(number: Annotated[str, typer.Argument(help="The letter.")], as_json: Json = False) -> None:
    """Print a dead letter whole."""
    with one_line_errors():
        found = call_api(current_environment(), "GET", f"/admin/v1/dlq/{number}", door="INGEST_URL")
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name in ("number", "service", "reason", "error", "where", "key", "mark"):
        typer.echo(f"{name}: {found[name]}")
    typer.echo(f"refused at: {format_instant(found['refused_at'])} UTC\n{found['value']}")


@app.command("replay")
def replay(  # noqa: PLR0913, PLR0917
    numbers: Numbers = None, every: Every = False, service: Service = "ingest", reason: Reason = "", where: Where = "",
    text: Text = "", since: Since = None, note: Note = "", repairs: Repairs = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Try letters again, after a fix or repaired; each counts once, however often it is tried."""
    with one_line_errors():
        changes = dict(_repair(one) for one in repairs or [])
        if changes and every:
            raise ConfigurationError(
                "--set is for letters that you name: the same value in all of them is rarely meant"
            )
        chosen = _chosen(numbers, every, _query(service, reason, where, text, since))
        told: dict[str, Any] = {"replayed": [], "refused": {}}
        for begin in range(0, len(chosen), SHOWN):
            body = {
                "numbers": chosen[begin : begin + SHOWN],
                "author": current_author(),
                "note": note,
                "set": changes,
            }
            found = call_api(
                current_environment(), "POST", "/admin/v1/dlq/replay", door="INGEST_URL", json=body
            )
            told["replayed"] += found["replayed"]
            told["refused"] |= found["refused"]
    if as_json:
        typer.echo(json.dumps(told))
    else:
        typer.echo(f"replayed {len(told['replayed'])}, refused again {len(told['refused'])}")
        for number, why in told["refused"].items():
            typer.echo(f"  {number}: {why}")
    if told["refused"]:
        raise typer.Exit(1)


@app.command("drop")
def drop(  # noqa: PLR0913, PLR0917
    numbers: Numbers = None, every: Every = False, service: Service = "ingest", reason: Reason = "", where: Where = "",
    text: Text = "", since: Since = None, note: Note = "",
) -> None:  # fmt: skip
    """Say that letters are to be left: they are not listed any more."""
    with one_line_errors():
        chosen = _chosen(numbers, every, _query(service, reason, where, text, since))
        for begin in range(0, len(chosen), SHOWN):
            body = {
                "numbers": chosen[begin : begin + SHOWN],
                "author": current_author(),
                "note": note,
            }
            call_api(
                current_environment(), "POST", "/admin/v1/dlq/drop", door="INGEST_URL", json=body
            )
    typer.echo(f"dropped {len(chosen)}")


def _repair(text: str) -> tuple[str, Any]:
    """Read PLACE=VALUE; a value that is no JSON is a text."""
    place, is_one, value = text.partition("=")
    if not place or not is_one:
        raise ConfigurationError(f"--set {text!r}: PLACE=VALUE, userId=42 say")
    try:
        return place, json.loads(value)
    except ValueError:
        return place, value


def _chosen(numbers: list[str] | None, every: bool, query: dict[str, Any]) -> list[str]:
    if bool(numbers) == every:
        raise ConfigurationError("name letters, or say --all with filters")
    if numbers:
        return numbers
    numbers, after = list[str](), ""
    while True:  # page by page: there may be more than anybody wants to hold
        page = {**query, "limit": 10_000, "after": after}
        found = call_api(
            current_environment(), "GET", "/admin/v1/dlq", door="INGEST_URL", params=page
        )["letters"]
        if not found:
            return numbers
        numbers += [one["number"] for one in found]
        after = f"{found[-1]['refused_at']}:{found[-1]['number']}"


def live(
    as_json: Json = False, source: Annotated[str, typer.Option(help="Only this source.")] = ""
) -> None:
    """Show what comes in, accepted or refused, until Ctrl-C."""
    with one_line_errors():
        for seen in stream_events(current_environment(), "/admin/v1/live", door="INGEST_URL"):
            if source and seen["source"] != source:
                continue
            if as_json:
                typer.echo(json.dumps(seen))
                continue
            what = " ".join(
                part for part in (seen["type"], seen["name"], seen["who"], seen["channel"]) if part
            )
            end = seen["reason"] and f" {seen['reason']} ({seen['number']})"
            typer.echo(
                f"{format_instant(seen['at'])} {seen['source']:<14} {seen['outcome']:<10} {what}{end}"
            )
