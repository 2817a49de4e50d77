"""The `perigee` command. Imports are kept inside the commands, so that `perigee env` answers at once."""

import asyncio
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.home import Home
from libs.common.errors import PerigeeError

app = typer.Typer(help="Perigee: a real-time engagement-cycle engine.", no_args_is_help=True, add_completion=False)
topics = typer.Typer(help="Kafka's topics.", no_args_is_help=True)
database = typer.Typer(help="The database.", no_args_is_help=True)
contact = typer.Typer(help="One contact.", no_args_is_help=True)
app.add_typer(topics, name="topics")
app.add_typer(database, name="db")
app.add_typer(contact, name="contact")

progress = Console(stderr=True)
logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)  # a server that is still starting is no news
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except PerigeeError as error:
        progress.print(f"perigee: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _say(text: str) -> None:
    progress.print(f"  {text}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _stack() -> Any:
    from cli.stack import Stack

    return Stack(Home.from_environment())


def _environment() -> dict[str, str]:
    """Return the running instance's environment, overridden by what the shell says."""
    stack = _stack()
    if stack.home.exists:
        kept: dict[str, str] = stack.environment()
        return {**os.environ, **kept}
    if "DATABASE_URL" not in os.environ:
        raise PerigeeError(f"nothing was started in {stack.home.folder}: run 'perigee up', or set DATABASE_URL")
    return dict(os.environ)


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return when all is ready, leave it running.")] = False,
    scoring: Annotated[int | None, typer.Option(min=1, help="Instances of scoring.")] = None,
) -> None:
    """Start whatever is missing; returns (or stays, without --detach) when every service is ready."""
    with _one_line_errors():
        stack = _stack()
        _sigterm_like_ctrl_c()
        try:
            stack.up(_say, scoring)
            progress.print("perigee is up. 'perigee status' shows it, 'perigee down' stops it.")
            if not detach:
                progress.print("Ctrl-C stops everything.")
                signal.pause()
        except KeyboardInterrupt:
            stack.down(_say)


def _sigterm_like_ctrl_c() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@app.command()
def down() -> None:
    """Stop everything that this home runs."""
    with _one_line_errors():
        _stack().down(_say)


@app.command()
def status(as_json: Json = False) -> None:
    """Show every process: pid, readiness, address."""
    with _one_line_errors():
        services = _stack().status()
    if as_json:
        print(json.dumps({"services": services}))
        return
    from cli.show import status_table
    from services.scoring.compiled import how

    Console().print(status_table(services))
    print(f"the fold runs {how()}")


@app.command()
def env() -> None:
    """Print the instance's addresses and keys as shell exports: eval "$(perigee env)"."""
    with _one_line_errors():
        stack = _stack()
        if not stack.home.exists:
            raise PerigeeError(f"nothing was started in {stack.home.folder}: run 'perigee up'")
        for name, value in stack.environment().items():
            print(f"export {name}={shlex.quote(value)}")


@topics.command("apply")
def topics_apply() -> None:
    """Create the topics that are missing."""
    from cli.prepare import apply_topics

    with _one_line_errors():
        made = asyncio.run(apply_topics(_environment()["KAFKA_BOOTSTRAP_SERVERS"]))
    print(f"created: {', '.join(made)}" if made else "every topic is there")


@database.command("migrate")
def db_migrate() -> None:
    """Bring the database to the newest schema."""
    from cli.prepare import migrate

    with _one_line_errors():
        asyncio.run(migrate(_environment()))
    print("the schema is up to date")


@contact.command("show")
def contact_show(who: Annotated[str, typer.Argument(help="Contact id, e-mail or user_id.")]) -> None:
    """Show a contact's timeline, scores, stages, and why."""
    from cli.story import story

    with _one_line_errors():
        asyncio.run(story(_environment()["DATABASE_URL"], who, Console()))


@app.command("replay-check")
def replay_check(
    as_json: Json = False,
    seconds: Annotated[float, typer.Option("--timeout", help="Seconds to wait for quiet.")] = 300,
) -> None:
    """Fold every stored touchpoint again and compare with what is stored, byte for byte."""
    from cli.replay import check, report

    with _one_line_errors():
        outcome = asyncio.run(check(_environment(), seconds, _say))
    if outcome is None:
        progress.print(f"perigee: not quiet within {seconds:.0f} s: 'perigee status' shows what runs", style="red")
        raise typer.Exit(2)
    print(json.dumps(outcome) if as_json else report(outcome))
    raise typer.Exit(0 if outcome["equal"] else 1)


@app.command()
def demo(
    stop: Annotated[bool, typer.Option("--exit", help="Stop everything at the end.")] = False,
    as_json: Json = False,
    scoring: Annotated[int | None, typer.Option(min=1, help="Instances of scoring.")] = None,
    anchor: Annotated[str | None, typer.Option(help="Instant of the last event, RFC 3339; kept.")] = None,
) -> None:
    """Start everything, send the storefront's touchpoints, show what happened."""
    from cli.demo import run

    with _one_line_errors():
        stack = _stack()
        _sigterm_like_ctrl_c()
        try:
            run(stack, as_json=as_json, scoring=scoring, anchor=anchor, say=_say)
            if stop:
                stack.down(_say)
        except KeyboardInterrupt:
            stack.down(_say)
            sys.exit(130)
        except PerigeeError:
            if stop:
                stack.down(_say)
            raise


if __name__ == "__main__":
    app()
