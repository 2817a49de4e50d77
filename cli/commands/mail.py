"""`perigee mail`: what the mail catcher of a local instance has caught."""

import email
import email.policy
import json
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.terminal import Json, current_environment, one_line_errors
from libs.common.errors import NotFound

EVERY = 0.2
"""Seconds between two looks."""


def mail(
    to: Annotated[str | None, typer.Option(help="Only mails to this address.")] = None,
    wait: Annotated[float, typer.Option(help="Wait so many seconds for one, at most.")] = 0,
    limit: Annotated[int, typer.Option(help="How many at most, the newest first.")] = 1,
    as_json: Json = False,
) -> None:
    """Show the newest mails that the catcher of this instance has caught; no mail of a local instance leaves this machine."""
    with one_line_errors():
        where = current_environment().get("MAIL_FOLDER")
        if not where:
            raise NotFound("this instance has no mail catcher: 'perigee up' starts one that has")
        folder = Path(where)
        found = _caught(folder, to, limit)
        end = time.monotonic() + wait
        while not found and time.monotonic() < end:
            time.sleep(EVERY)
            found = _caught(folder, to, limit)
        if not found:
            raise NotFound(f"no mail{f' to {to}' if to else ''} was caught yet: {folder}")
    shown = [
        {"to": str(m["To"]), "subject": str(m["Subject"]), "date": str(m["Date"]), "text": _text(m)}
        for m in found
    ]
    if as_json:
        typer.echo(json.dumps(shown))
        return
    console = Console(highlight=False, markup=False)
    for one in shown:
        console.print(f"To: {one['to']}\nSubject: {one['subject']}\n\n{one['text']}")


def _caught(folder: Path, to: str | None, limit: int) -> list[EmailMessage]:
    """Return mails, the newest first."""
    found: list[EmailMessage] = []
    for path in sorted(folder.glob("*.eml"), key=lambda one: one.stat().st_mtime_ns, reverse=True):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if isinstance(message, EmailMessage) and (to is None or to in str(message["To"])):
            found.append(message)
        if len(found) == limit:
            break
    return found


def _text(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    return str(body.get_content()).strip() if body is not None else ""
