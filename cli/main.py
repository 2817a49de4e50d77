"""The `perigee` command. Imports are kept inside the commands, so that `perigee env` answers at once."""

import asyncio
import json
import logging
import os
import shlex
import signal
import sys
from typing import Annotated

import typer
from rich.console import Console

from cli import (
    access,
    action,
    audience,
    cycle,
    definitions,
    dlq,
    event,
    imports,
    link,
    mail,
    outbox,
    people,
    play,
    referral,
    source,
    subscription,
)
from cli.terminal import Json, environment, one_line_errors, progress, say, stack, workspace
from libs.common.errors import PerigeeError

app = typer.Typer(help="Perigee: a real-time engagement-cycle engine.", no_args_is_help=True, add_completion=False)
topics = typer.Typer(help="Kafka's topics.", no_args_is_help=True)
database = typer.Typer(help="The database.", no_args_is_help=True)
contact = typer.Typer(help="One contact.", no_args_is_help=True)
app.add_typer(topics, name="topics")
app.add_typer(database, name="db")
app.add_typer(contact, name="contact")
app.add_typer(cycle.app, name="cycle")
app.add_typer(people.identity, name="identity")
app.add_typer(people.correct, name="correct")
app.add_typer(people.refold, name="refold")
app.add_typer(outbox.app, name="outbox")
app.add_typer(source.app, name="source")
app.add_typer(subscription.app, name="subscription")
app.add_typer(play.app, name="play")
app.add_typer(action.app, name="action")
app.add_typer(audience.app, name="audience")
app.add_typer(event.app, name="event")
app.add_typer(referral.app, name="referral")
app.add_typer(play.switch, name="switch")
for kind in definitions.KINDS:
    app.add_typer(definitions.group(kind), name=kind)
app.add_typer(access.workspaces, name="workspace")
app.add_typer(access.keys, name="key")
app.add_typer(dlq.app, name="dlq")
app.command("live")(dlq.live)
app.command("import")(imports.import_file)
app.command("url")(link.url)
app.command("mail")(mail.mail)

logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)  # a server that is still starting is no news


@app.callback()
def perigee(
    name: Annotated[
        str | None, typer.Option("--workspace", envvar="PERIGEE_WORKSPACE", help="The workspace to work in.")
    ] = None,
) -> None:
    """Perigee: a real-time engagement-cycle engine."""
    if name:
        os.environ["PERIGEE_WORKSPACE"] = name


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return when all is ready, leave it running.")] = False,
    scoring: Annotated[int | None, typer.Option(min=1, help="Instances of scoring.")] = None,
) -> None:
    """Start whatever is missing; returns (or stays, without --detach) when every service is ready."""
    with one_line_errors():
        instance = stack()
        _end_by_signals()
        try:
            instance.up(say, scoring)
            progress.print("perigee is up. 'perigee status' shows it, 'perigee down' stops it.")
            if not detach:
                progress.print("Ctrl-C stops everything.")
                signal.pause()
        except KeyboardInterrupt:
            instance.down(say)


def _end_by_signals() -> None:
    """Let SIGTERM end it as Ctrl-C does; and SIGINT too where it was started with that ignored, in a script's background."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, interrupt)


@app.command()
def down() -> None:
    """Stop everything that this home runs."""
    with one_line_errors():
        stack().down(say)


@app.command()
def status(as_json: Json = False) -> None:
    """Show every process: pid, readiness, address."""
    with one_line_errors():
        services = stack().status()
    if as_json:
        print(json.dumps({"services": services}))
        return
    from cli.show import status_table
    from libs.common.compilation import PUBLISHER_MODULES
    from services.ingest.compilation import FAST_PATH_MODULES
    from services.scoring.compilation import FOLD_MODULES

    Console().print(status_table(services))
    for part in (FOLD_MODULES, FAST_PATH_MODULES, PUBLISHER_MODULES):
        print(f"the {part.name} runs {part.mode()}")


@app.command()
def env() -> None:
    """Print the instance's addresses and keys as shell exports: eval "$(perigee env)"."""
    with one_line_errors():
        instance = stack()
        if not instance.home.exists:
            raise PerigeeError(f"nothing was started in {instance.home.folder}: run 'perigee up'")
        for name, value in instance.environment().items():
            print(f"export {name}={shlex.quote(value)}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look at everything that Perigee stands on; exit code 1 when something is wrong."""
    from cli.doctor import look, show

    with one_line_errors():
        found = asyncio.run(look(environment()))
    if as_json:
        print(json.dumps([one.shown() for one in found]))
    else:
        show(found)
    raise typer.Exit(1 if any(one.fault for one in found) else 0)


@topics.command("apply")
def topics_apply() -> None:
    """Create the topics that are missing."""
    from cli.prepare import apply_topics

    with one_line_errors():
        made = asyncio.run(apply_topics(environment()["KAFKA_BOOTSTRAP_SERVERS"]))
    print(f"created: {', '.join(made)}" if made else "every topic is there")


@database.command("migrate")
def db_migrate() -> None:
    """Bring the database to the newest schema."""
    from cli.prepare import migrate

    with one_line_errors():
        asyncio.run(migrate(environment()))
    print("the schema is up to date")


@app.command()
def prepare() -> None:
    """Do what stands between empty servers and running services: the schema, the first sources, the topics."""
    from cli.prepare import apply_topics, migrate

    with one_line_errors():
        asyncio.run(migrate(environment()))
        made = asyncio.run(apply_topics(environment()["KAFKA_BOOTSTRAP_SERVERS"]))
    print(f"the schema is up to date; topics created: {', '.join(made) or 'none, all were there'}")


@contact.command("show")
def contact_show(who: Annotated[str, typer.Argument(help="Contact id, e-mail or user_id.")]) -> None:
    """Show a contact's timeline, scores, stages, and why."""
    from cli.story import story

    with one_line_errors():
        asyncio.run(story(environment()["DATABASE_URL"], workspace(), who, Console()))


@contact.command("explain")
def contact_explain(
    who: Annotated[str, typer.Argument(help="Contact id, identifier or e-mail.")],
    cycle: Annotated[str | None, typer.Option(help="One cycle only.")] = None,
    at: Annotated[str | None, typer.Option(help="At this instant (RFC 3339) instead of now.")] = None,
    as_json: Json = False,
) -> None:
    """Show where every point and every stage comes from, what the next stage lacks, and what comes next by itself."""
    from cli.why import asked, shown

    with one_line_errors():
        found = asked(environment(), who, cycle, at)
    if as_json:
        print(json.dumps(found))
    else:
        shown(found, Console())


@contact.command("why-not")
def contact_why_not(
    who: Annotated[str, typer.Argument(help="Contact id, user id or e-mail.")], as_json: Json = False
) -> None:
    """Show which plays a contact is in, and why each action went out, or did not."""
    from cli.contact import why_not

    with one_line_errors():
        why_not(environment(), who, as_json=as_json)


@contact.command("allow")
def contact_allow(
    who: Annotated[str, typer.Argument(help="Contact id, user id or e-mail.")],
    channel: Annotated[str, typer.Option(help="The channel.")] = "email",
) -> None:
    """Let a channel be used again for somebody who unsubscribed, complained or bounced; consent is still needed."""
    from cli.contact import allow

    with one_line_errors():
        allow(environment(), who, channel)


@app.command("replay-check")
def replay_check(
    as_json: Json = False,
    seconds: Annotated[float, typer.Option("--timeout", help="Seconds to wait for quiet.")] = 300,
) -> None:
    """Fold every stored touchpoint again and compare with what is stored, byte for byte."""
    from cli.replay import check, report

    with one_line_errors():
        outcome = asyncio.run(check(environment(), seconds, say))
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

    with one_line_errors():
        instance = stack()
        _end_by_signals()
        try:
            run(instance, as_json=as_json, scoring=scoring, anchor=anchor, say=say)
            if stop:
                instance.down(say)
        except KeyboardInterrupt:
            instance.down(say)
            sys.exit(130)
        except PerigeeError:
            if stop:
                instance.down(say)
            raise


if __name__ == "__main__":
    app()
