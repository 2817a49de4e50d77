"""Figures that the demo shows at its end."""

from collections import Counter
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from cli.api_client import ServiceVariable, call_api
from cli.timeline_view import fetch_timeline, print_timeline
from libs.common.api_keys import DEFAULT_WORKSPACE

DIRECTIONS = ("entry", "advance", "skip", "lateral", "regression", "repeat", "re_entry", "dormancy")
STATUSES = (
    "sent",
    "pending",
    "held",
    "suppressed",
    "capped",
    "holdout",
    "skipped",
    "failed",
    "in_doubt",
)
OUTCOMES = ("delivered", "retried", "failed", "unknown")
CYCLE, SOURCE = "engagement", "storefront"
PAGE_MESSAGES = 1_000
_EXAMPLE = '{"event":"Quote Requested","userId":"me"}'


class Report(msgspec.Struct):
    """The figures, and the contact of the timeline."""

    events_accepted: int
    touchpoints_stored: int
    contacts: int
    stage_changes: dict[str, int]
    plays: dict[str, int]
    actions: dict[str, int]
    deliveries: dict[str, int]
    cells: dict[tuple[str, str], int]
    """Contacts at each (sales, buying) of the shipped cycle."""
    hero: str
    """Contact with the most directions of stage changes."""

    def to_document(self) -> dict[str, Any]:
        """Return the figures as one JSON document."""
        names = (
            "events_accepted",
            "touchpoints_stored",
            "contacts",
            "stage_changes",
            "plays",
            "actions",
            "deliveries",
        )
        return {name: getattr(self, name) for name in names}


def gather_report(environment: dict[str, str], accepted: int) -> Report:
    """Read the figures from scoring and the orchestrator. Raises PerigeeError."""
    changes = _stage_changes(environment)
    scoring = _get(environment, "SCORING_URL", "/v1/statistics")
    orchestrator = _get(environment, "ORCHESTRATOR_URL", "/admin/v1/orchestrator/statistics")
    stored = scoring["sources"].get(SOURCE, {"touchpoints": 0, "contacts": 0})
    cells = {
        (sales, buying): cell["contacts"]
        for cell in scoring["positions"].get(CYCLE, ())
        for buying, sales in [cell["places"]]
    }
    return Report(
        accepted,
        stored["touchpoints"],
        stored["contacts"],
        _in_order(Counter(change["direction"] for change in changes), DIRECTIONS),
        orchestrator["plays"],
        _in_order(orchestrator["actions"], STATUSES),
        _in_order(orchestrator["deliveries"], OUTCOMES),
        cells,
        _hero(changes),
    )


def _get(environment: dict[str, str], service: ServiceVariable, path: str, **params: Any) -> Any:
    return call_api(
        environment, "GET", path, service=service, workspace=DEFAULT_WORKSPACE, params=params
    )


def _stage_changes(environment: dict[str, str]) -> list[dict[str, Any]]:
    """Return every published stage change, read by cursor."""
    changes: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        page = _get(
            environment, "SCORING_URL", "/v1/stage-changes", cursor=cursor, limit=PAGE_MESSAGES
        )
        changes |= {item["id"]: item["data"] for item in page["items"]}
        cursor = page["cursor"]
        if not page["more"]:
            return list(changes.values())


def _in_order(counts: dict[str, int], names: tuple[str, ...]) -> dict[str, int]:
    return {name: counts.get(name, 0) for name in names}


def _hero(changes: list[dict[str, Any]]) -> str:
    directions: dict[str, set[str]] = {}
    for change in changes:
        directions.setdefault(change["contact_id"], set()).add(change["direction"])
    return max(directions, key=lambda contact: (len(directions[contact]), contact), default="")


def print_report(report: Report, environment: dict[str, str], console: Console) -> None:
    """Print the figures, one timeline, and the next commands to try."""
    console.rule("results")
    console.print(
        f"{report.events_accepted} events accepted, "
        f"{report.touchpoints_stored} touchpoints stored, {report.contacts} contacts"
    )
    console.print(_matrix(report.cells))
    console.print(_line("stage changes", report.stage_changes))
    console.print(_line("contacts in plays", report.plays))
    console.print(_line("actions", report.actions))
    console.print(_line("deliveries", report.deliveries))
    if report.hero:
        console.rule("timeline of one contact")
        print_timeline(fetch_timeline(environment, report.hero, DEFAULT_WORKSPACE), console)
    console.rule("next commands")
    kafka = environment["KAFKA_BOOTSTRAP_SERVERS"]
    commands = [
        f"send your own:  curl -u {environment['WRITE_KEY']}: "
        f"{environment['INGEST_URL']}/v1/track -d '{_EXAMPLE}'",
        "see yourself:   .venv/bin/perigee contact show me",
        f"topics:         touchpoints, stage-changes, signals, contacts, actions at {kafka}",
        f"mails caught:   {environment['MAIL_FOLDER']}",
        "prove it:       .venv/bin/perigee replay-check",
        "stop it:        .venv/bin/perigee down",
    ]
    for command in commands:
        console.print(command, soft_wrap=True, markup=False, highlight=False)


def _matrix(cells: dict[tuple[str, str], int]) -> Table:
    """Return the buying × sales table, in the order of the shipped cycle."""
    sales = ("unknown", "identified", "qualified", "won")
    table = Table("buying \\ sales", *sales, title="contacts by position")
    for buying in ("awareness", "investigation", "validation", "purchase", "loyalty", "advocacy"):
        table.add_row(buying, *(str(cells.get((stage, buying), "")) for stage in sales))
    return table


def _line(title: str, counts: dict[str, int]) -> str:
    return f"{title}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
