"""`perigee play simulate`: a play over what was published, told day by day."""

import asyncio
from datetime import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.terminal import current_workspace, parse_instant, progress
from libs.common.clock import SystemClock
from libs.common.db.connection import Session
from libs.common.durations import parse_duration
from libs.common.errors import ConfigurationError
from libs.common.instants import to_iso
from services.orchestrator.domain.gate import GateRules
from services.orchestrator.domain.play_simulation import count_by_day
from services.orchestrator.handlers.simulation_runner import run_simulation


def simulate_file(
    environment: dict[str, str], file: Path, since: str, until: str | None
) -> dict[str, Any]:
    """Return what a file would have done. Raises ConfigurationError."""
    end = parse_instant(until) or SystemClock().now()
    try:
        begin = end - parse_duration(since)
    except ValueError as error:
        raise ConfigurationError(f"--since {since}: {error}") from None
    return asyncio.run(_run(environment, file.read_text(encoding="utf-8"), str(file), (begin, end)))


async def _run(
    environment: dict[str, str], text: str, where: str, between: tuple[int, int]
) -> dict[str, Any]:
    session = Session(environment["DATABASE_URL"], "perigee-simulate")
    try:
        with progress.status("simulating") as status:
            async with session.acquire() as connection:
                found = await run_simulation(
                    connection, current_workspace(), text, where, _rules(environment), between,
                    lambda count: status.update(f"simulating: {count:,} contacts"),
                )  # fmt: skip
    finally:
        await session.close()
    return {
        "contacts": found.contacts,
        "days": [{"day": to_iso(day)[:10], **counts} for day, counts in count_by_day(found.happened)],
        "happened": [{"at": to_iso(h.at), "contact": h.contact_id, "what": h.what, "step": h.step, "reason": h.reason}
                     for h in sorted(found.happened, key=lambda one: one.at)],
    }  # fmt: skip


def _rules(environment: dict[str, str]) -> GateRules:
    """Return the gate's rules as the instance has them."""
    plain = GateRules()
    quiet = [environment.get(name) for name in ("PERIGEE_QUIET_FROM", "PERIGEE_QUIET_TO")]
    return GateRules(
        int(environment.get("PERIGEE_CAP_PER_DAY", plain.cap_per_day)),
        int(environment.get("PERIGEE_CAP_PER_WEEK", plain.cap_per_week)),
        *(time.fromisoformat(text) if text else None for text in quiet),
    )


def print_days(found: dict[str, Any], console: Console) -> None:
    """Print it for a marketer."""
    names = list(dict.fromkeys(name for day in found["days"] for name in day if name != "day"))
    table = Table(
        "day", *names, title=f"what would have happened, with {found['contacts']:,} contacts"
    )
    for day in found["days"]:
        table.add_row(day["day"], *(f"{day[name]:,}" if name in day else "" for name in names))
    totals = [sum(day.get(name, 0) for day in found["days"]) for name in names]
    table.add_row("all", *(f"{total:,}" for total in totals), style="bold")
    console.print(table)
