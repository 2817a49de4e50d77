"""Scoring with the shipped cycle against its floor, in alternating rounds: docs/benchmarks.md.

The floor polls the same records, decodes them and COPYs the same rows in durable transactions.
Figures are ratios of medians over the rounds; CPU per touchpoint is less noisy than time.

    make bench            BENCH_TOUCHPOINTS=240000 BENCH_CONTACTS=5000 BENCH_ROUNDS=5
"""

import asyncio
import cProfile
import os
import pstats
import statistics
import sys
from pathlib import Path
from typing import Any

import uvloop

from cli.home import PROJECT
from libs.common.service_runner import tune_garbage_collector
from services.scoring.compilation import FOLD_MODULES
from tests.benchmarks.report import write
from tests.benchmarks.scoring_runs import Measured, fill, floor, scoring, touchpoints
from tests.support.servers import find_servers


def own_time_by_file(profile: cProfile.Profile) -> list[tuple[str, float]]:
    """Return the share of own time by file, largest first."""
    shares: dict[str, float] = {}
    for (path, _, function), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if "poll" in function:
            continue  # waiting for PostgreSQL and Kafka
        file_name = "built-ins" if path == "~" else str(Path(path)).replace(str(PROJECT) + "/", "")
        file_name = (
            file_name.split("site-packages/")[-1] if "site-packages" in file_name else file_name
        )
        shares[file_name] = shares.get(file_name, 0.0) + own
    total = sum(shares.values())
    return sorted(((name, own / total) for name, own in shares.items()), key=lambda x: -x[1])[:12]


def report(
    size: int,
    count: int,
    contacts: int,
    floors: list[Measured],
    runs: list[Measured],
    facts: dict[str, Any],
) -> str:
    """Return the figures as a table."""

    def median(field: str, measurements: list[Measured]) -> float:
        return float(statistics.median(getattr(m, field) for m in measurements))

    ratio = median("rate", runs) / median("rate", floors)
    ratios = [run.rate / floor_.rate for run, floor_ in zip(runs, floors, strict=True)]
    lines = [
        f"{count:,} touchpoints of {contacts:,} contacts, {size} bytes each, "
        f"{len(runs)} alternating rounds, the fold {FOLD_MODULES.mode()}, "
        f"Python {sys.version.split()[0]}, {os.cpu_count()} cores.",
        "",
        "| | touchpoints/s | Python µs | PostgreSQL µs |",
        "|---|---|---|---|",
        f"| floor: getmany + decode + COPY | {median('rate', floors):,.0f} | "
        f"{median('python_us', floors):.1f} | {median('postgres_us', floors):.1f} |",
        f"| scoring, shipped cycle, durable | {median('rate', runs):,.0f} | "
        f"{median('python_us', runs):.1f} | {median('postgres_us', runs):.1f} |",
        "",
        f"Ratio to the floor: **{ratio:.2f}** (rounds {min(ratios):.2f} to {max(ratios):.2f}; "
        "required 0.40 at 5 k contacts, 0.30 at 500 k). CPU required: 16 + 10 µs.",
        "",
        "; ".join(f"{name} {value:,}" for name, value in facts.items()) + ".",
        f"Outbox rows per touchpoint: {facts['outbox rows'] / count:.2f}.",
    ]
    return "\n".join(lines)


async def main() -> None:
    """Run the rounds and write the page."""
    count, contacts, rounds = (
        int(os.environ.get(f"BENCH_{name}", default))
        for name, default in (("TOUCHPOINTS", "240000"), ("CONTACTS", "5000"), ("ROUNDS", "5"))
    )
    tune_garbage_collector()
    servers = await asyncio.to_thread(find_servers)
    try:
        size = await fill(servers, touchpoints(count, contacts))
        floors, runs, facts = [], [], {}
        for number in range(rounds):
            floors.append(await floor(servers, count))
            run, facts = await scoring(servers, count)
            runs.append(run)
            print(
                f"round {number + 1}/{rounds}: floor {floors[-1].rate:,.0f}/s, "
                f"scoring {run.rate:,.0f}/s",
                file=sys.stderr,
            )
        profile = cProfile.Profile()
        await scoring(servers, count, profile)
        text = report(size, count, contacts, floors, runs, facts)
        shares = "\n".join(
            f"| `{name}` | {share:.0%} |" for name, share in own_time_by_file(profile)
        )
        write("figures", f"{text}\n\n| own time by file (profiled) | share |\n|---|---|\n{shares}")
    finally:
        await asyncio.to_thread(servers.stop)


if __name__ == "__main__":
    uvloop.run(main())
