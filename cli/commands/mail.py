"""`perigee mail`: mails that the mail catcher of a local instance has caught."""

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

POLL_SECONDS = 0.2


def mail(
    to: Annotated[str | None, typer.Option(help="Only mails to this address.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a mail.")] = 0,
    limit: Annotated[int, typer.Option(help="Largest number of mails, the newest first.")] = 1,
    as_json: Json = False,
) -> None:
    """Show the newest mails that this instance's catcher has caught.

    None of them leaves this machine.
    """
    with one_line_errors():
        path = current_environment().get("MAIL_FOLDER")
        if not path:
            raise NotFound(
                "this instance has no mail catcher: 'perigee up' starts an instance with a catcher"
            )
        folder = Path(path)
        messages = _newest_mails(folder, to, limit)
        deadline = time.monotonic() + wait
        while not messages and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            messages = _newest_mails(folder, to, limit)
        if not messages:
            raise NotFound(f"no mail{f' to {to}' if to else ''} was caught yet: {folder}")
    shown = [
        {"to": str(m["To"]), "subject": str(m["Subject"]), "date": str(m["Date"]), "text": _text(m)}
        for m in messages
    ]
    if as_json:
        typer.echo(json.dumps(shown))
        return
    console = Console(highlight=False, markup=False)
    for mail_text in shown:
        console.print(
            f"To: {mail_text['to']}\nSubject: {mail_text['subject']}\n\n{mail_text['text']}"
        )


def _newest_mails(folder: Path, to: str | None, limit: int) -> list[EmailMessage]:
    """Return mails, the newest first."""
    messages: list[EmailMessage] = []
    for path in sorted(
        folder.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns, reverse=True
    ):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if isinstance(message, EmailMessage) and (to is None or to in str(message["To"])):
            messages.append(message)
        if len(messages) == limit:
            break
    return messages


def _text(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    return str(body.get_content()).strip() if body is not None else ""
