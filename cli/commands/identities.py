"""`perigee identity`, `perigee correct`, `perigee refold`: what a person says about people, and how it is taken in."""

import time
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from cli.api_client import call_api, current_author
from cli.terminal import Json, current_environment, one_line_errors, parse_instant, progress
from libs.common.errors import PerigeeError
from libs.common.instants import to_datetime

identity = typer.Typer(help="Who is who: look, merge, unmerge.", no_args_is_help=True)
correct = typer.Typer(
    help="Say what was recorded wrongly; every correction can be taken back.", no_args_is_help=True
)
refold = typer.Typer(help="The queue of contacts that are folded again.", no_args_is_help=True)

Who = Annotated[
    str, typer.Argument(help="Contact id, identifier (user_id:alice, external:crm:7) or e-mail.")
]
Note = Annotated[str, typer.Option(help="Why, for the record.")]
MessageIds = Annotated[
    list[str] | None, typer.Option("--message-id", help="Only this touchpoint; may be repeated.")
]


@identity.command("show")
def show(who: Who, as_json: Json = False) -> None:
    """Show a person's identifiers, devices, links, redirects and corrections."""
    with one_line_errors():
        found = call_api(
            current_environment(), "GET", f"/admin/v1/identities/{quote(who, safe='')}"
        )
    if as_json:
        typer.echo(_dumped(found))
        return
    console = Console()
    console.print(f"contact {found['contact_id']}", highlight=False)
    console.print(f"  known by {', '.join(found['identifiers']) or '-'}", highlight=False)
    for redirect in found["redirects"]:
        console.print(f"  {redirect} leads here", highlight=False)
    devices = [[d["anonymous_id"], d["owner"], _when(d["since"])] for d in found["devices"]]
    links = [
        [j["one"], j["other"], "yes" if j["counts"] else "no", j["why"]] for j in found["links"]
    ]
    told = [
        [str(c["number"]), c["kind"], c["about"], c["author"], c["note"]]
        for c in found["corrections"]
    ]
    _print(console, "devices", ["device", "claimed by", "since"], devices)
    _print(console, "links", ["one", "other", "counts", "why"], links)
    _print(console, "corrections", ["#", "kind", "about", "by", "note"], told)


@identity.command("merge")
def merge(one: Who, other: Who, note: Note = "", as_json: Json = False) -> None:
    """Say that two people are one; old ids lead to the survivor."""
    _pair("merge", one, other, note, as_json=as_json)


@identity.command("unmerge")
def unmerge(one: Who, other: Who, note: Note = "", as_json: Json = False) -> None:
    """Take two identifiers apart; each person gets their id and history back."""
    _pair("unmerge", one, other, note, as_json=as_json)


def _pair(
    verb: Literal["merge", "unmerge"], one: str, other: str, note: str, *, as_json: bool
) -> None:
    with one_line_errors():
        body = {"one": one, "other": other, "author": current_author(), "note": note}
        found = call_api(current_environment(), "POST", f"/admin/v1/identities/{verb}", json=body)
    if as_json:
        typer.echo(_dumped(found))
        return
    ids = " and ".join(found["contacts"])
    typer.echo(
        f"{verb}d: {'one contact' if len(found['contacts']) == 1 else 'two contacts'}, {ids}"
    )
    if found["still_joined"]:
        progress.print(
            "that link is revoked, but others still join the two: 'perigee identity show' lists them"
        )


@correct.command("bot")
def bot(who: Who, message_id: MessageIds = None, note: Note = "") -> None:
    """Flag touchpoints (all of a contact's by default) as a program's: they mean nothing and end no silence."""
    _touchpoints("bot", who, message_id, note)


@correct.command("human")
def human(who: Who, message_id: MessageIds = None, note: Note = "") -> None:
    """Take a bot flag away."""
    _touchpoints("human", who, message_id, note)


@correct.command("exclude")
def exclude(who: Who, message_id: MessageIds = None, note: Note = "") -> None:
    """Fold as if these touchpoints had never been."""
    _touchpoints("exclude", who, message_id, note)


@correct.command("include")
def include(who: Who, message_id: MessageIds = None, note: Note = "") -> None:
    """Put excluded touchpoints back."""
    _touchpoints("include", who, message_id, note)


def _touchpoints(kind: str, who: str, message_ids: list[str] | None, note: str) -> None:
    body = {
        "who": who,
        "kind": kind,
        "message_ids": message_ids or [],
        "author": current_author(),
        "note": note,
    }
    with one_line_errors():
        found = call_api(
            current_environment(), "POST", "/admin/v1/corrections/touchpoints", json=body
        )
    typer.echo(
        f"{kind}: {found['corrected']} touchpoints; 'perigee refold status' shows when it has taken effect"
    )


@correct.command("stage")
def stage(
    who: Who,
    places: Annotated[
        list[str], typer.Option("--set", help="axis=stage, e.g. sales=qualified; may be repeated.")
    ],
    cycle: Annotated[str, typer.Option(help="The cycle.")] = "engagement",
    at: Annotated[
        str | None, typer.Option(help="From this instant on (RFC 3339); now by default.")
    ] = None,
    hold: Annotated[
        str, typer.Option(help="How long it stands whatever happens, e.g. 30d.")
    ] = "30d",
    note: Note = "",
) -> None:
    """Set a known person's stage by hand; afterwards the rules go on from there."""
    with one_line_errors():
        pairs = [text.split("=", 1) for text in places]
        if any(len(pair) != 2 for pair in pairs):
            raise PerigeeError(f"--set {places}: axis=stage is needed, e.g. sales=qualified")
        body: dict[str, Any] = {"who": who, "cycle": cycle, "places": dict(pairs), "hold": hold}
        body |= {"author": current_author(), "note": note, "at": parse_instant(at)}
        found = call_api(current_environment(), "POST", "/admin/v1/corrections/stage", json=body)
    typer.echo(f"correction {found['correction']} recorded; 'perigee identity show' lists it")


@refold.command("status")
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the queue is empty.")] = False,
    as_json: Json = False,
) -> None:
    """Show how many contacts wait to be folded again, and why."""
    with one_line_errors():
        found = call_api(current_environment(), "GET", "/admin/v1/refolds")
        if watch:
            found = _watched(found)
    if as_json:
        typer.echo(_dumped(found))
        return
    rows = [
        [reason, str(w["contacts"]), f"{w['seconds']:.0f} s"]
        for reason, w in found["reasons"].items()
    ]
    if rows:
        _print(Console(), "waiting to be folded again", ["reason", "contacts", "oldest"], rows)
    else:
        typer.echo("nobody waits to be folded again")
    if found["errors"]:
        typer.echo(f"{found['errors']} folds raised an error and are tried again every minute")


def _watched(found: Any) -> Any:
    from rich.progress import Progress

    with Progress(console=progress) as bar:
        task = bar.add_task("folding again", total=found["contacts"])
        most = found["contacts"]
        while found["contacts"]:
            time.sleep(0.5)
            found = call_api(current_environment(), "GET", "/admin/v1/refolds")
            most = max(most, found["contacts"])
            bar.update(task, total=most, completed=most - found["contacts"])
    return found


def _print(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    if rows:
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def _dumped(found: Any) -> str:
    import json

    return json.dumps(found)


def _when(microseconds: int) -> str:
    return to_datetime(microseconds).strftime("%Y-%m-%d %H:%M:%S")
