"""`perigee dlq` and `perigee live`: refused messages with the reason, and incoming messages."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, current_author, stream_events
from cli.terminal import (
    Json,
    current_environment,
    format_instant,
    one_line_errors,
    parse_instant,
)
from libs.common.errors import ConfigurationError

app = typer.Typer(help="Dead letters: refused messages, and their repair.", no_args_is_help=True)

Service = Annotated[str, typer.Option(help="ingest, scoring or orchestrator.")]
Reason = Annotated[str, typer.Option(help="Only this reason: no_ids, bad_time …")]
Where = Annotated[str, typer.Option("--source", help="Only messages of this source.")]
Text = Annotated[str, typer.Option(help="Only dead letters that contain this text.")]
Since = Annotated[str | None, typer.Option(help="Only those since then: 2026-11-22T09:30:00Z.")]
Numbers = Annotated[
    list[str] | None, typer.Argument(help="Dead letters, as 'perigee dlq list' numbers them.")
]
Every = Annotated[bool, typer.Option("--all", help="All that the filters choose.")]
Note = Annotated[str, typer.Option(help="Why.")]
Repairs = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="PLACE=VALUE, put into each call before: userId=42. Repeatable.",
    ),
]
PAGE_ROWS = 100


def _query(service: str, reason: str, where: str, text: str, since: str | None) -> dict[str, Any]:
    filters = {"service": service, "reason": reason, "where": where, "text": text}
    return {**filters, "since": parse_instant(since) or 0}


@app.command("list")
def listing(
    service: Service = "ingest",
    reason: Reason = "",
    where: Where = "",
    text: Text = "",
    since: Since = None,
    marked: Annotated[
        bool, typer.Option("--marked", help="Also replayed and dropped ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List dead letters, oldest first."""
    with one_line_errors():
        query = {
            **_query(service, reason, where, text, since),
            "marked": marked,
            "limit": PAGE_ROWS,
        }
        page = call_api(
            current_environment(), "GET", "/admin/v1/dlq", service="INGEST_URL", params=query
        )
    if as_json:
        typer.echo(json.dumps(page))
        return
    if not page["letters"]:
        typer.echo(f"no dead letters of {service}")
        return
    table = Table("number", "refused at", "reason", "where", "error", "mark")
    for letter in page["letters"]:
        table.add_row(
            letter["number"],
            format_instant(letter["refused_at"]),
            letter["reason"],
            letter["where"],
            letter["error"],
            letter["mark"],
        )
    Console().print(table)
    rest = page["all"] - len(page["letters"])
    if rest > 0:
        typer.echo(f"{rest:,} more: narrow it with --reason, --source, --since, --text")


@app.command("show")
def show(
    number: Annotated[str, typer.Argument(help="The dead letter.")], as_json: Json = False
) -> None:
    """Print a dead letter with its complete value."""
    with one_line_errors():
        letter = call_api(
            current_environment(), "GET", f"/admin/v1/dlq/{number}", service="INGEST_URL"
        )
    if as_json:
        typer.echo(json.dumps(letter))
        return
    for name in ("number", "service", "reason", "error", "where", "key", "mark"):
        typer.echo(f"{name}: {letter[name]}")
    typer.echo(f"refused at: {format_instant(letter['refused_at'])} UTC\n{letter['value']}")


@app.command("replay")
def replay(  # noqa: PLR0913, PLR0917
    numbers: Numbers = None,
    every: Every = False,
    service: Service = "ingest",
    reason: Reason = "",
    where: Where = "",
    text: Text = "",
    since: Since = None,
    note: Note = "",
    repairs: Repairs = None,
    as_json: Json = False,
) -> None:
    """Try dead letters again, after a fix or repaired.

    Each counts once, however often it is tried.
    """
    with one_line_errors():
        changes = dict(_parse_repair(text) for text in repairs or [])
        if changes and every:
            raise ConfigurationError(
                "--set is for dead letters given by number: "
                "the same value in all of them is rarely right"
            )
        chosen = _chosen(numbers, every, _query(service, reason, where, text, since))
        outcome: dict[str, Any] = {"replayed": [], "refused": {}}
        for begin in range(0, len(chosen), PAGE_ROWS):
            body = {
                "numbers": chosen[begin : begin + PAGE_ROWS],
                "author": current_author(),
                "note": note,
                "set": changes,
            }
            answer = call_api(
                current_environment(),
                "POST",
                "/admin/v1/dlq/replay",
                service="INGEST_URL",
                json=body,
            )
            outcome["replayed"] += answer["replayed"]
            outcome["refused"] |= answer["refused"]
    if as_json:
        typer.echo(json.dumps(outcome))
    else:
        typer.echo(f"replayed {len(outcome['replayed'])}, refused again {len(outcome['refused'])}")
        for number, error in outcome["refused"].items():
            typer.echo(f"  {number}: {error}")
    if outcome["refused"]:
        raise typer.Exit(1)


@app.command("drop")
def drop(  # noqa: PLR0913, PLR0917
    numbers: Numbers = None,
    every: Every = False,
    service: Service = "ingest",
    reason: Reason = "",
    where: Where = "",
    text: Text = "",
    since: Since = None,
    note: Note = "",
) -> None:
    """Drop dead letters: they are not listed any more."""
    with one_line_errors():
        chosen = _chosen(numbers, every, _query(service, reason, where, text, since))
        for begin in range(0, len(chosen), PAGE_ROWS):
            body = {
                "numbers": chosen[begin : begin + PAGE_ROWS],
                "author": current_author(),
                "note": note,
            }
            call_api(
                current_environment(), "POST", "/admin/v1/dlq/drop", service="INGEST_URL", json=body
            )
    typer.echo(f"dropped {len(chosen)}")


def _parse_repair(text: str) -> tuple[str, Any]:
    """Parse PLACE=VALUE; a value that is no JSON is a text."""
    place, sign, value = text.partition("=")
    if not place or not sign:
        raise ConfigurationError(f"--set {text!r}: PLACE=VALUE, userId=42 say")
    try:
        return place, json.loads(value)
    except ValueError:
        return place, value


def _chosen(numbers: list[str] | None, every: bool, query: dict[str, Any]) -> list[str]:
    if bool(numbers) == every:
        raise ConfigurationError("give numbers of dead letters, or --all with filters")
    if numbers:
        return numbers
    numbers, after = list[str](), ""
    while True:  # page by page, so that memory stays bounded
        params = {**query, "limit": 10_000, "after": after}
        letters = call_api(
            current_environment(), "GET", "/admin/v1/dlq", service="INGEST_URL", params=params
        )["letters"]
        if not letters:
            return numbers
        numbers += [letter["number"] for letter in letters]
        after = f"{letters[-1]['refused_at']}:{letters[-1]['number']}"


def live(
    as_json: Json = False, source: Annotated[str, typer.Option(help="Only this source.")] = ""
) -> None:
    """Show incoming messages, accepted or refused, until Ctrl-C."""
    with one_line_errors():
        for event in stream_events(current_environment(), "/admin/v1/live", service="INGEST_URL"):
            if source and event["source"] != source:
                continue
            if as_json:
                typer.echo(json.dumps(event))
                continue
            parts = (event["type"], event["name"], event["who"], event["channel"])
            text = " ".join(part for part in parts if part)
            end = event["reason"] and f" {event['reason']} ({event['number']})"
            typer.echo(
                f"{format_instant(event['at'])} {event['source']:<14} "
                f"{event['outcome']:<10} {text}{end}"
            )
