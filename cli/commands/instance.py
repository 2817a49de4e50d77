"""Commands of the instance and its servers: `perigee up`, `down`, `status`, `doctor` …."""

import asyncio
import json
import shlex
import signal
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.terminal import (
    Json,
    current_environment,
    current_stack,
    one_line_errors,
    print_progress,
    progress,
)
from libs.common.errors import PerigeeError

topics = typer.Typer(help="Kafka's topics.", no_args_is_help=True)
database = typer.Typer(help="The database.", no_args_is_help=True)
ScoringInstances = Annotated[int | None, typer.Option(min=1, help="Instances of scoring.")]


def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when all is ready, leave it running.")
    ] = False,
    scoring: ScoringInstances = None,
) -> None:
    """Start every missing process; return (without --detach: stay) when all services are ready."""
    with one_line_errors():
        stack = current_stack()
        interrupt_on_signals()
        try:
            stack.up(print_progress, scoring)
            progress.print("perigee is up. 'perigee status' shows it, 'perigee down' stops it.")
            if not detach:
                progress.print("Ctrl-C stops everything.")
                signal.pause()
        except KeyboardInterrupt:
            stack.down(print_progress)


def interrupt_on_signals() -> None:
    """Let SIGTERM, and SIGINT in a script's background, end the command as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, interrupt)


def down() -> None:
    """Stop every process of this home."""
    with one_line_errors():
        current_stack().down(print_progress)


def status(as_json: Json = False) -> None:
    """Show every process: pid, readiness, address."""
    with one_line_errors():
        stack = current_stack()
        services = stack.status()
    if as_json:
        print(json.dumps({"services": services}))
        return
    Console().print(build_status_table(services))
    for name, mode in stack.compiled_modules().items():
        print(f"the {name} runs {mode}")


def build_status_table(services: list[dict[str, Any]]) -> Table:
    """Return the processes as a table."""
    table = Table("service", "pid", "ready", "address")
    for service in services:
        ready = "[green]yes[/]" if service["ready"] else "[red]no[/]"
        table.add_row(service["name"], str(service["pid"] or "-"), ready, service["url"])
    return table


def env() -> None:
    """Print the instance's addresses and keys as shell exports: eval "$(perigee env)"."""
    with one_line_errors():
        stack = current_stack()
        if not stack.home.exists:
            raise PerigeeError(f"nothing was started in {stack.home.folder}: run 'perigee up'")
        for name, value in stack.environment().items():
            print(f"export {name}={shlex.quote(value)}")


def doctor(as_json: Json = False) -> None:
    """Check servers, services and machine; exit code 1 when something is wrong."""
    from cli.doctor import print_findings, run_checks

    with one_line_errors():
        findings = asyncio.run(run_checks(current_environment()))
    if as_json:
        print(json.dumps([finding.to_document() for finding in findings]))
    else:
        print_findings(findings)
    raise typer.Exit(1 if any(finding.fault for finding in findings) else 0)


@topics.command("apply")
def topics_apply() -> None:
    """Create the topics that are missing."""
    from cli.preparation import apply_topics

    with one_line_errors():
        created = asyncio.run(apply_topics(current_environment()["KAFKA_BOOTSTRAP_SERVERS"]))
    print(f"created: {', '.join(created)}" if created else "every topic is there")


@database.command("migrate")
def db_migrate() -> None:
    """Bring the database to the newest schema."""
    from cli.preparation import migrate

    with one_line_errors():
        asyncio.run(migrate(_with_database()))
    print("the schema is up to date")


def prepare() -> None:
    """Prepare empty servers for the services: the schema, the first sources, the topics."""
    from cli.preparation import apply_topics, migrate

    with one_line_errors():
        environment = _with_database()
        asyncio.run(migrate(environment))
        created = asyncio.run(apply_topics(environment["KAFKA_BOOTSTRAP_SERVERS"]))
    print(
        f"the schema is up to date; topics created: {', '.join(created) or 'none, all were there'}"
    )


def _with_database() -> dict[str, str]:
    environment = current_environment()
    if "DATABASE_URL" not in environment:
        raise PerigeeError(
            "DATABASE_URL is not set: 'perigee env' prints it for a running instance"
        )
    return environment
