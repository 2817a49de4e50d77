"""The `perigee` command.

Commands import their dependencies inside, so that `perigee env` answers at once.
"""

import logging
import os
from typing import Annotated

import typer

from cli.commands import (
    actions,
    audiences,
    contacts,
    cycles,
    dead_letters,
    definitions,
    demo,
    events,
    identities,
    imports,
    instance,
    mail,
    outbox,
    plays,
    referrals,
    replay,
    sources,
    subscriptions,
    switches,
    utm_links,
    workspaces,
)

app = typer.Typer(
    help="Perigee: a real-time engagement-cycle engine.", no_args_is_help=True, add_completion=False
)
app.add_typer(instance.topics, name="topics")
app.add_typer(instance.database, name="db")
app.add_typer(contacts.app, name="contact")
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
app.add_typer(switches.app, name="switch")
for kind in definitions.DEFINITION_KINDS:
    app.add_typer(definitions.build_group(kind), name=kind)
app.add_typer(workspaces.workspaces, name="workspace")
app.add_typer(workspaces.keys, name="key")
app.add_typer(dead_letters.app, name="dlq")
app.command("up")(instance.up)
app.command("down")(instance.down)
app.command("status")(instance.status)
app.command("env")(instance.env)
app.command("doctor")(instance.doctor)
app.command("prepare")(instance.prepare)
app.command("demo")(demo.demo)
app.command("replay-check")(replay.replay_check)
app.command("live")(dead_letters.live)
app.command("import")(imports.import_file)
app.command("url")(utm_links.url)
app.command("mail")(mail.mail)

# A server that is still starting is no error.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


@app.callback()
def perigee(
    name: Annotated[
        str | None,
        typer.Option("--workspace", envvar="PERIGEE_WORKSPACE", help="The workspace to work in."),
    ] = None,
) -> None:
    """Perigee: a real-time engagement-cycle engine."""
    if name:
        os.environ["PERIGEE_WORKSPACE"] = name


if __name__ == "__main__":
    app()
