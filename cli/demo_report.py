"""What the demo shows at its end."""

import contextlib
from collections import Counter
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from cli.contact_story import print_story
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.db.connection import Connection
from libs.common.errors import InvalidMessage
from libs.common.kafka.topic_reader import read_all as messages
from libs.common.messages import StageChange, decode_value
from services.scoring.domain.publication import PublishedPosition

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
_EXAMPLE = '{"event":"Quote Requested","userId":"me"}'
OUTCOMES = ("delivered", "retried", "failed", "unknown")


class Report(msgspec.Struct):
    """The figures, and the contact whose story is told."""

    events_accepted: int
    touchpoints_stored: int
    contacts: int
    stage_changes: dict[str, int]
    plays: dict[str, int]
    actions: dict[str, int]
    deliveries: dict[str, int]
    cells: dict[tuple[str, str], int]
    hero: str

    def document(self) -> dict[str, Any]:
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


async def gather_report(
    connection: Connection, environment: dict[str, str], accepted: int
) -> Report:
    """Read the figures: stage changes from the topic, the rest from the database's snapshot."""
    changes = {}
    for record in await messages(environment["KAFKA_BOOTSTRAP_SERVERS"], "stage-changes"):
        with contextlib.suppress(InvalidMessage):  # rubbish on the topic is nobody's stage change
            change = decode_value(StageChange, record.value)
            changes[change.id] = change  # at least once on the topic: the id drops a repeat
    (stored,) = await connection.fetch(
        "SELECT count(*), count(DISTINCT contact_id) FROM scoring.touchpoints WHERE source = 'storefront'"
    )
    return Report(
        accepted,
        stored[0],
        stored[1],
        _counts(Counter(c.direction for c in changes.values()), DIRECTIONS),
        dict(sorted((await _by(connection, "play", "enrollments")).items())),
        _counts(await _by(connection, "status", "actions"), STATUSES),
        _counts(await _by(connection, "outcome", "deliveries"), OUTCOMES),
        await _cells(connection),
        _hero(list(changes.values())),
    )


def _counts(found: Counter[str], names: tuple[str, ...]) -> dict[str, int]:
    return {name: found[name] for name in names}


async def _by(connection: Connection, column: str, table: str) -> Counter[str]:
    rows = await connection.fetch(f"SELECT {column}, count(*) FROM orchestrator.{table} GROUP BY 1")  # noqa: S608
    return Counter({r[0]: r[1] for r in rows})


async def _cells(connection: Connection) -> dict[tuple[str, str], int]:
    """Return how many contacts stand in each (sales, buying) cell of the shipped cycle."""
    rows = await connection.fetch(
        "SELECT p.published FROM scoring.publications p JOIN scoring.contacts c USING (contact_id) "
        "WHERE p.cycle = 'engagement' AND c.merged_into IS NULL"
    )
    cells: Counter[tuple[str, str]] = Counter()
    for row in rows:
        buying, sales = msgspec.msgpack.decode(row[0], type=PublishedPosition).position.places
        cells[sales, buying] += 1
    return dict(cells)


def _hero(changes: list[StageChange]) -> str:
    """Return the contact whose journey has the most kinds of moves."""
    kinds: dict[str, set[str]] = {}
    for change in changes:
        kinds.setdefault(change.contact_id, set()).add(change.direction)
    return max(kinds, key=lambda contact: (len(kinds[contact]), contact), default="")


async def print_report(report: Report, environment: dict[str, str], console: Console) -> None:
    """Print it all for a person who sees this for the first time."""
    console.rule("what happened")
    console.print(
        f"{report.events_accepted} events accepted, {report.touchpoints_stored} touchpoints stored, "
        f"{report.contacts} contacts"
    )
    console.print(_matrix(report.cells))
    console.print(_line("stage changes", report.stage_changes))
    console.print(_line("people in plays", report.plays))
    console.print(_line("actions", report.actions))
    console.print(_line("deliveries", report.deliveries))
    if report.hero:
        console.rule("one contact's whole story")
        await print_story(environment["DATABASE_URL"], DEFAULT_WORKSPACE, report.hero, console)
    console.rule("where to look next")
    kafka = environment["KAFKA_BOOTSTRAP_SERVERS"]
    where = [
        f"send your own:  curl -u {environment['WRITE_KEY']}: {environment['INGEST_URL']}/v1/track -d '{_EXAMPLE}'",
        "see yourself:   .venv/bin/perigee contact show me",
        f"topics:         touchpoints, stage-changes, signals, contacts, actions at {kafka}",
        f"mails caught:   {environment['MAIL_FOLDER']}",
        "prove it:       .venv/bin/perigee replay-check",
        "stop it:        .venv/bin/perigee down",
    ]
    for line in where:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _matrix(cells: dict[tuple[str, str], int]) -> Table:
    """Return the buying × sales table; its order is that of the shipped cycle."""
    sales = ("unknown", "identified", "qualified", "won")
    table = Table("buying \\ sales", *sales, title="where they stand now")
    for buying in ("awareness", "investigation", "validation", "purchase", "loyalty", "advocacy"):
        table.add_row(buying, *(str(cells.get((s, buying), "")) for s in sales))
    return table


def _line(title: str, counts: dict[str, int]) -> str:
    return f"{title}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
