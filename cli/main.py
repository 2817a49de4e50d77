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

from cli.commands import (
    actions,
    audiences,
    cycles,
    dead_letters,
    definitions,
    events,
    identities,
    imports,
    mail,
    outbox,
    plays,
    referrals,
    sources,
    subscriptions,
    urls,
    workspaces,
)
from cli.terminal import (
    Json,
    current_environment,
    current_stack,
    current_workspace,
    one_line_errors,
    print_progress,
    progress,
)
from libs.common.errors import PerigeeError

app = typer.Typer(
    help="Perigee: a real-time engagement-cycle engine.", no_args_is_help=True, add_completion=False
)
topics = typer.Typer(help="Kafka's topics.", no_args_is_help=True)
database = typer.Typer(help="The database.", no_args_is_help=True)
contact = typer.Typer(help="One contact.", no_args_is_help=True)
app.add_typer(topics, name="topics")
app.add_typer(database, name="db")
app.add_typer(contact, name="contact")
app.add_typer(cycles.app, name="cycle")
app.add_typer(identities.identity, name="identity")
app.add_typer(identities.correct, name="correct")
app.add_typer(identities.refold, name="refold")
app.add_typer(outbox.app, name="outbox")
app.add_typer(sources.app, name="source")
app.add_typer(subscriptions.app, name="subscription")
app.add_typer(plays.app, name="play")
app.add_typer(actions.app, name="action")
app.add_typer(audiences.app, name="audience")
app.add_typer(events.app, name="event")
app.add_typer(referrals.app, name="referral")
app.add_typer(plays.switch, name="switch")
for kind in definitions.DEFINITION_KINDS:
    app.add_typer(definitions.build_group(kind), name=kind)
app.add_typer(workspaces.workspaces, name="workspace")
app.add_typer(workspaces.keys, name="key")
app.add_typer(dead_letters.app, name="dlq")
app.command("live")(dead_letters.live)
app.command("import")(imports.import_file)
app.command("url")(urls.url)
app.command("mail")(mail.mail)

logging.getLogger("aiokafka").setLevel(
    logging.CRITICAL + 1
)  # a server that is still starting is no news


@app.callback()
def perigee(
    name: Annotated[
        str | None,
        typer.Option(
            "--workspace", envvar="PERIGEE_WORKSPACE", help="The current_workspace to work in."
        ),
    ] = None,
) -> None:
    """Perigee: a real-time engagement-cycle engine."""
    if name:
        os.environ["PERIGEE_WORKSPACE"] = name


@app.command()
def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when all is ready, leave it running.")
    ] = False,
    scoring: Annotated[int | None, typer.Option(min=1, help="Instances of scoring.")] = None,
) -> None:
    """Start whatever is missing; returns (or stays, without --detach) when every service is ready."""
    with one_line_errors():
        instance = current_stack()
        _end_by_signals()
        try:
            instance.up(print_progress, scoring)
            progress.print("perigee is up. 'perigee status' shows it, 'perigee down' stops it.")
            if not detach:
                progress.print("Ctrl-C stops everything.")
                signal.pause()
        except KeyboardInterrupt:
            instance.down(print_progress)


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
        current_stack().down(print_progress)


@app.command()
def status(as_json: Json = False) -> None:
    """Show every process: pid, readiness, address."""
    with one_line_errors():
        services = current_stack().status()
    if as_json:
        print(json.dumps({"services": services}))
        return
    from cli.status_table import status_table
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
        instance = current_stack()
        if not instance.home.exists:
            raise PerigeeError(f"nothing was started in {instance.home.folder}: run 'perigee up'")
        for name, value in instance.environment().items():
            print(f"export {name}={shlex.quote(value)}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look at everything that Perigee stands on; exit code 1 when something is wrong."""
    from cli.doctor import print_findings, run_checks

    with one_line_errors():
        found = asyncio.run(run_checks(current_environment()))
    if as_json:
        print(json.dumps([one.shown() for one in found]))
    else:
        print_findings(found)
    raise typer.Exit(1 if any(one.fault for one in found) else 0)


@topics.command("apply")
def topics_apply() -> None:
    """Create the topics that are missing."""
    from cli.preparation import apply_topics

    with one_line_errors():
        made = asyncio.run(apply_topics(current_environment()["KAFKA_BOOTSTRAP_SERVERS"]))
    print(f"created: {', '.join(made)}" if made else "every topic is there")


@database.command("migrate")
def db_migrate() -> None:
    """Bring the database to the newest schema."""
    from cli.preparation import migrate

    with one_line_errors():
        asyncio.run(migrate(current_environment()))
    print("the schema is up to date")


@app.command()
def prepare() -> None:
    """Do what stands between empty servers and running services: the schema, the first sources, the topics."""
    from cli.preparation import apply_topics, migrate

    with one_line_errors():
        asyncio.run(migrate(current_environment()))
        made = asyncio.run(apply_topics(current_environment()["KAFKA_BOOTSTRAP_SERVERS"]))
    print(f"the schema is up to date; topics created: {', '.join(made) or 'none, all were there'}")


@contact.command("show")
def contact_show(
    who: Annotated[str, typer.Argument(help="Contact id, e-mail or user_id.")],
) -> None:
    """Show a contact's timeline, scores, stages, and why."""
    from cli.contact_story import print_story

    with one_line_errors():
        asyncio.run(
            print_story(current_environment()["DATABASE_URL"], current_workspace(), who, Console())
        )


@contact.command("explain")
def contact_explain(
    who: Annotated[str, typer.Argument(help="Contact id, identifier or e-mail.")],
    cycle: Annotated[str | None, typer.Option(help="One cycles only.")] = None,
    at: Annotated[
        str | None, typer.Option(help="At this instant (RFC 3339) instead of now.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where every point and every stage comes from, what the next stage lacks, and what comes next by itself."""
    from cli.explanation_view import fetch_explanation, print_explanation

    with one_line_errors():
        found = fetch_explanation(current_environment(), who, cycle, at)
    if as_json:
        print(json.dumps(found))
    else:
        print_explanation(found, Console())


@contact.command("why-not")
def contact_why_not(
    who: Annotated[str, typer.Argument(help="Contact id, user id or e-mail.")],
    as_json: Json = False,
) -> None:
    """Show which plays a contact is in, and why each action went out, or did not."""
    from cli.contact_decisions import print_decisions

    with one_line_errors():
        print_decisions(current_environment(), who, as_json=as_json)


@contact.command("allow")
def contact_allow(
    who: Annotated[str, typer.Argument(help="Contact id, user id or e-mail.")],
    channel: Annotated[str, typer.Option(help="The channel.")] = "email",
) -> None:
    """Let a channel be used again for somebody who unsubscribed, complained or bounced; consent is still needed."""
    from cli.contact_decisions import delete_suppression

    with one_line_errors():
        delete_suppression(current_environment(), who, channel)


@app.command("replay-check")
def replay_check(
    as_json: Json = False,
    seconds: Annotated[float, typer.Option("--timeout", help="Seconds to wait for quiet.")] = 300,
) -> None:
    """Fold every stored touchpoint again and compare with what is stored, byte for byte."""
    from cli.replay_check import format_report, run_replay_check

    with one_line_errors():
        outcome = asyncio.run(run_replay_check(current_environment(), seconds, print_progress))
    if outcome is None:
        progress.print(
            f"perigee: not quiet within {seconds:.0f} s: 'perigee status' shows what runs",
            style="red",
        )
        raise typer.Exit(2)
    print(json.dumps(outcome) if as_json else format_report(outcome))
    raise typer.Exit(0 if outcome["equal"] else 1)


@app.command()
def demo(
    stop: Annotated[bool, typer.Option("--exit", help="Stop everything at the end.")] = False,
    as_json: Json = False,
    scoring: Annotated[int | None, typer.Option(min=1, help="Instances of scoring.")] = None,
    anchor: Annotated[
        str | None, typer.Option(help="Instant of the last event, RFC 3339; kept.")
    ] = None,
) -> None:
    """Start everything, send the storefront's touchpoints, show what happened."""
    from cli.demo import run_demo

    with one_line_errors():
        instance = current_stack()
        _end_by_signals()
        try:
            run_demo(instance, as_json=as_json, scoring=scoring, anchor=anchor, say=print_progress)
            if stop:
                instance.down(print_progress)
        except KeyboardInterrupt:
            instance.down(print_progress)
            sys.exit(130)
        except PerigeeError:
            if stop:
                instance.down(print_progress)
            raise


if __name__ == "__main__":
    app()
