"""`perigee contact`: a contact's timeline, explanation and decisions."""

import json
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from cli.api_client import call_api
from cli.terminal import ContactArgument, Json, current_environment, one_line_errors

app = typer.Typer(help="One contact.", no_args_is_help=True)


@app.command("show")
def show(contact: ContactArgument) -> None:
    """Show a contact's timeline, scores, stages, and their causes."""
    from cli.timeline_view import fetch_timeline, print_timeline

    with one_line_errors():
        timeline = fetch_timeline(current_environment(), contact)
    print_timeline(timeline, Console())


@app.command("explain")
def explain(
    contact: ContactArgument,
    cycle: Annotated[str | None, typer.Option(help="One cycle only.")] = None,
    at: Annotated[
        str | None, typer.Option(help="At this instant (RFC 3339) instead of now.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the cause of every point and stage, and the conditions of the next stage."""
    from cli.explanation_view import fetch_explanation, print_explanation

    with one_line_errors():
        explanation = fetch_explanation(current_environment(), contact, cycle, at)
    if as_json:
        print(json.dumps(explanation))
    else:
        print_explanation(explanation, Console())


@app.command("why-not")
def why_not(contact: ContactArgument, as_json: Json = False) -> None:
    """Show a contact's plays, and the reason why each action went out or did not."""
    from cli.decision_view import fetch_decisions, print_decisions

    with one_line_errors():
        decisions = fetch_decisions(current_environment(), contact)
    if as_json:
        typer.echo(json.dumps(decisions))
    else:
        print_decisions(decisions, Console())


@app.command("allow")
def allow(
    contact: ContactArgument,
    channel: Annotated[str, typer.Option(help="The channel.")] = "email",
) -> None:
    """Lift a suppression: the contact unsubscribed, complained or bounced.

    Consent is still needed.
    """
    with one_line_errors():
        call_api(
            current_environment(),
            "DELETE",
            f"/admin/v1/suppressions/{quote(contact, safe='')}/{quote(channel, safe='')}",
            service="ORCHESTRATOR_URL",
        )
    typer.echo(f"{contact} may get {channel} again")
