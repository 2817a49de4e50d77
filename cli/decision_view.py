"""`perigee contact why-not`: a contact's consents, plays and decisions."""

from typing import Any
from urllib.parse import quote

from rich.console import Console

from cli.api_client import call_api
from cli.terminal import build_table


def fetch_decisions(environment: dict[str, str], contact: str) -> Any:
    """Return the orchestrator's decisions about a contact. Raises PerigeeError."""
    return call_api(
        environment, "GET", f"/admin/v1/why/{quote(contact, safe='')}", service="ORCHESTRATOR_URL"
    )


def print_decisions(decisions: Any, console: Console) -> None:
    """Print consents and suppressions, then enrollments, then actions."""
    console.print(f"contact {decisions['contact_id']}", highlight=False)
    permissions = [
        f"{purpose} {'allowed' if given else 'refused'}"
        for purpose, given in decisions["consents"].items()
    ]
    permissions += [
        f"no {channel}: {reason}" for channel, reason in decisions["suppressed"].items()
    ]
    console.print(
        "  " + (", ".join(permissions) or "no consent was ever given or refused"), highlight=False
    )
    enrollments = (
        (
            enrollment["play"],
            str(enrollment["version"]),
            enrollment["entered_at"][:16],
            enrollment["status"],
            enrollment["reason"],
            str(enrollment["due_at"] or "-")[:16],
        )
        for enrollment in decisions["plays"]
    )
    headings = ("play", "version", "entered", "status", "why", "next look")
    console.print(build_table(*headings, rows=enrollments))
    actions = (
        (
            action["at"][:16],
            f"{action['play']}.{action['step']}",
            action["channel"],
            action["status"],
            action["reason"],
        )
        for action in decisions["decisions"]
    )
    console.print(build_table("when", "action", "channel", "status", "why", rows=actions))
