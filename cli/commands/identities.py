"""`perigee identity`, `perigee correct`, `perigee refold`: corrections and their re-folds."""

import json
import time
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, current_author
from cli.terminal import (
    ContactArgument,
    Json,
    current_environment,
    format_instant,
    one_line_errors,
    parse_instant,
    progress,
)
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.errors import PerigeeError

identity = typer.Typer(help="Identities: show, merge, unmerge.", no_args_is_help=True)
correct = typer.Typer(
    help="Correct wrong records; every correction can be revoked.", no_args_is_help=True
)
refold = typer.Typer(help="The queue of contacts that are folded again.", no_args_is_help=True)

Note = Annotated[str, typer.Option(help="Reason, for the record.")]
POLL_SECONDS = 0.5
MessageIds = Annotated[
    list[str] | None, typer.Option("--message-id", help="Only this touchpoint; may be repeated.")
]


@identity.command("show")
def show(contact: ContactArgument, as_json: Json = False) -> None:
    """Show a contact's identifiers, devices, links, redirects and corrections."""
    with one_line_errors():
        view = call_api(
            current_environment(), "GET", f"/admin/v1/identities/{quote(contact, safe='')}"
        )
    if as_json:
        typer.echo(json.dumps(view))
        return
    console = Console()
    console.print(f"contact {view['contact_id']}", highlight=False)
    console.print(f"  known by {', '.join(view['identifiers']) or '-'}", highlight=False)
    for redirect in view["redirects"]:
        console.print(f"  {redirect} redirects here", highlight=False)
    devices = [
        [device["anonymous_id"], device["owner"], format_instant(device["since"])]
        for device in view["devices"]
    ]
    links = [
        [link["one"], link["other"], "yes" if link["counts"] else "no", link["why"]]
        for link in view["links"]
    ]
    corrections = [
        [str(row["number"]), row["kind"], row["about"], row["author"], row["note"]]
        for row in view["corrections"]
    ]
    _print(console, "devices", ["device", "claimed by", "since"], devices)
    _print(console, "links", ["first", "second", "counts", "why"], links)
    _print(console, "corrections", ["#", "kind", "about", "by", "note"], corrections)


@identity.command("merge")
def merge(
    first: ContactArgument, second: ContactArgument, note: Note = "", as_json: Json = False
) -> None:
    """Merge two contacts; the old ids redirect to the canonical id."""
    _change_identities("merge", first, second, note, as_json=as_json)


@identity.command("unmerge")
def unmerge(
    first: ContactArgument, second: ContactArgument, note: Note = "", as_json: Json = False
) -> None:
    """Take two identifiers apart; each contact gets its id and history back."""
    _change_identities("unmerge", first, second, note, as_json=as_json)


def _change_identities(
    verb: Literal["merge", "unmerge"], first: str, second: str, note: str, *, as_json: bool
) -> None:
    with one_line_errors():
        body = {"one": first, "other": second, "author": current_author(), "note": note}
        change = call_api(current_environment(), "POST", f"/admin/v1/identities/{verb}", json=body)
    if as_json:
        typer.echo(json.dumps(change))
        return
    ids = " and ".join(change["contacts"])
    typer.echo(
        f"{verb}d: {'one contact' if len(change['contacts']) == 1 else 'two contacts'}, {ids}"
    )
    if change["still_joined"]:
        progress.print(
            "that link is revoked, but other links still join the two: "
            "'perigee identity show' lists them"
        )


@correct.command("bot")
def bot(contact: ContactArgument, message_id: MessageIds = None, note: Note = "") -> None:
    """Flag touchpoints (all of a contact's by default) as a bot's: they score nothing."""
    _correct_touchpoints("bot", contact, message_id, note)


@correct.command("human")
def human(contact: ContactArgument, message_id: MessageIds = None, note: Note = "") -> None:
    """Remove a bot flag."""
    _correct_touchpoints("human", contact, message_id, note)


@correct.command("exclude")
def exclude(contact: ContactArgument, message_id: MessageIds = None, note: Note = "") -> None:
    """Fold without these touchpoints."""
    _correct_touchpoints("exclude", contact, message_id, note)


@correct.command("include")
def include(contact: ContactArgument, message_id: MessageIds = None, note: Note = "") -> None:
    """Put excluded touchpoints back."""
    _correct_touchpoints("include", contact, message_id, note)


def _correct_touchpoints(kind: str, contact: str, message_ids: list[str] | None, note: str) -> None:
    body = {
        "who": contact,
        "kind": kind,
        "message_ids": message_ids or [],
        "author": current_author(),
        "note": note,
    }
    with one_line_errors():
        count = call_api(
            current_environment(), "POST", "/admin/v1/corrections/touchpoints", json=body
        )["corrected"]
    typer.echo(
        f"{kind}: {count} touchpoints; 'perigee refold status' shows when it has taken effect"
    )


@correct.command("stage")
def stage(
    contact: ContactArgument,
    places: Annotated[
        list[str], typer.Option("--set", help="axis=stage, e.g. sales=qualified; may be repeated.")
    ],
    cycle: Annotated[str, typer.Option(help="The cycle.")] = "engagement",
    at: Annotated[
        str | None, typer.Option(help="From this instant on (RFC 3339); now by default.")
    ] = None,
    hold: Annotated[str, typer.Option(help="How long the stage is fixed, e.g. 30d.")] = "30d",
    note: Note = "",
) -> None:
    """Set a known contact's stage by hand; afterwards the rules go on from there."""
    with one_line_errors():
        pairs = [text.split("=", 1) for text in places]
        if any(len(pair) != 2 for pair in pairs):
            raise PerigeeError(f"--set {places}: axis=stage is needed, e.g. sales=qualified")
        body: dict[str, Any] = {"who": contact, "cycle": cycle, "places": dict(pairs), "hold": hold}
        body |= {"author": current_author(), "note": note, "at": parse_instant(at)}
        number = call_api(current_environment(), "POST", "/admin/v1/corrections/stage", json=body)[
            "correction"
        ]
    typer.echo(f"correction {number} recorded; 'perigee identity show' lists it")


@refold.command("status")
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the queue is empty.")] = False,
    as_json: Json = False,
) -> None:
    """Show how many contacts wait to be folded again, by reason."""
    with one_line_errors():
        queue = _get_queue()
        if watch:
            queue = _watch(queue)
    if as_json:
        typer.echo(json.dumps(queue))
        return
    rows = [
        [reason, str(waiting["contacts"]), f"{waiting['seconds']:.0f} s"]
        for reason, waiting in queue["reasons"].items()
    ]
    if rows:
        _print(Console(), "waiting to be folded again", ["reason", "contacts", "oldest"], rows)
    else:
        typer.echo("no contact waits to be folded again")
    if queue["errors"]:
        typer.echo(f"{queue['errors']} folds raised an error and are tried again every minute")


def _get_queue() -> Any:
    return call_api(current_environment(), "GET", "/admin/v1/refolds", workspace=DEFAULT_WORKSPACE)


def _watch(queue: Any) -> Any:
    """Show the queue until it is empty; return its last status."""
    from rich.progress import Progress

    with Progress(console=progress) as bar:
        task = bar.add_task("folding again", total=queue["contacts"])
        most = queue["contacts"]
        while queue["contacts"]:
            time.sleep(POLL_SECONDS)
            queue = _get_queue()
            most = max(most, queue["contacts"])
            bar.update(task, total=most, completed=most - queue["contacts"])
    return queue


def _print(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    if rows:
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
