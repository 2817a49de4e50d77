"""`perigee replay-check`: every touchpoint folded again, compared with the stored rows."""

import json
import time
from typing import Annotated, Any

import typer

from cli.api_client import call_api
from cli.idle_detection import wait_until_idle
from cli.terminal import Json, current_environment, one_line_errors, print_progress, progress
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.errors import Conflict

MAX_WAIT_SECONDS = 60.0
"""Longest wait that scoring accepts in one request."""


def replay_check(
    as_json: Json = False,
    seconds: Annotated[
        float, typer.Option("--timeout", help="Seconds to wait until the instance is idle.")
    ] = 300,
) -> None:
    """Fold every stored touchpoint again and compare with the stored rows, byte for byte."""
    with one_line_errors():
        outcome = _run(current_environment(), seconds)
    if outcome is None:
        progress.print(
            f"perigee: not idle within {seconds:.0f} s: 'perigee status' shows the processes",
            style="red",
        )
        raise typer.Exit(2)
    print(json.dumps(outcome) if as_json else format_outcome(outcome))
    raise typer.Exit(0 if outcome["equal"] else 1)


def _run(environment: dict[str, str], seconds: float) -> dict[str, Any] | None:
    """Return scoring's comparison, None when the instance is not idle within `seconds`."""
    deadline = time.monotonic() + seconds
    if not wait_until_idle(environment, seconds, print_progress):
        return None
    wait = min(MAX_WAIT_SECONDS, max(1.0, deadline - time.monotonic()))
    try:
        outcome: dict[str, Any] = call_api(
            environment,
            "POST",
            "/admin/v1/replay-check",
            workspace=DEFAULT_WORKSPACE,
            timeout=None,
            json={"timeout": wait},
        )
    except Conflict as error:
        print_progress(str(error))
        return None
    return outcome


def format_outcome(outcome: dict[str, Any]) -> str:
    """Return the outcome as text, a line for each difference."""
    figures = (
        f"{outcome['touchpoints']} touchpoints, {outcome['contacts']} contacts, "
        f"{outcome['transitions']} transitions"
    )
    if outcome["equal"]:
        return f"equal: {figures} folded again, every byte the same"
    differences = [f"  {difference}" for difference in outcome["differences"]]
    return "\n".join([f"NOT EQUAL: {figures}", *differences])
