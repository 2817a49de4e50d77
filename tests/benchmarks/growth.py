"""Cost of a touchpoint as contacts and stored touchpoints grow; part of docs/benchmarks.md.

The headline load are visits (`visits.py`); beside it, as "contacts", touchpoints of identified
contacts chosen at random, without devices or identity work. Every size has a database whose
contacts exist before; each run works on a copy of it. With a checkout of another version, set up
by `make setup`, the two versions run by turns, each on a PostgreSQL of its own settings: the other
version fills the database, this one migrates a copy of its data directory.

    make bench-growth     BENCH_BASELINE=../perigee-1.4  BENCH_SIZES=10000,100000,1000000
                          BENCH_LOADS=visits,contacts  BENCH_TOUCHPOINTS=60000  BENCH_ROUNDS=5
                          BENCH_STORED=10000000
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import msgspec

from cli.home import PROJECT
from cli.servers.kafka import KafkaServer
from tests.benchmarks.growth_steps import GrowthRun
from tests.benchmarks.report import log_progress, write
from tests.support.servers import _embedded_home, with_database

FEW_CONTACTS = 10_000
"""Contacts of the database with many stored touchpoints."""
_TITLES = {
    "rate": "touchpoints/s",
    "python_us": "Python µs",
    "postgres_us": "PostgreSQL µs",
    "wal_bytes": "WAL bytes",
    "page_images": "page images",
    "rows_written": "rows written",
    "lock_wait_us": "µs waiting for locks",
    "resolutions_per_batch": "resolutions per batch",
}


class Version(msgspec.Struct):
    """A checkout under measurement, with the DSN of its PostgreSQL."""

    name: str
    folder: Path
    server: Path
    url: str = ""

    def step(self, *arguments: str | int | Path) -> str:
        """Run a step of `growth_steps` in this checkout and return what it prints."""
        command = [self.folder / ".venv" / "bin" / "python", "-m", "tests.benchmarks.growth_steps"]
        process = subprocess.run(
            [*map(str, command), *map(str, arguments)],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return process.stdout.strip()

    def start(self) -> None:
        """Start PostgreSQL with this version's settings."""
        self.url = self.step("serve", self.server)

    def stop(self) -> None:
        """Stop PostgreSQL."""
        self.step("stop", self.server)


class Case(msgspec.Struct, frozen=True):
    """A load on a database of some size."""

    load: str
    contacts: int
    stored: int = 0

    @property
    def database(self) -> str:
        """Return the name of the database that each run copies."""
        return f"growth_{self.contacts}_{self.stored}"

    @property
    def title(self) -> str:
        """Return the row's title."""
        older = f", {self.stored:,} stored touchpoints" if self.stored else ""
        return f"{self.load}, {self.contacts:,} contacts{older}"


def main() -> None:
    """Prepare the databases and topics, run the rounds by turns and write the tables."""
    loads = os.environ.get("BENCH_LOADS", "visits,contacts").split(",")
    sizes = [int(s) for s in os.environ.get("BENCH_SIZES", "10000,100000,1000000").split(",")]
    stored = int(os.environ.get("BENCH_STORED", "10000000"))
    count = int(os.environ.get("BENCH_TOUCHPOINTS", "60000"))
    rounds = int(os.environ.get("BENCH_ROUNDS", "5"))
    cases = [Case(load, contacts) for contacts in sizes for load in loads]
    cases += [Case(load, FEW_CONTACTS, stored) for load in loads if stored]
    folder = Path(tempfile.mkdtemp(prefix="perigee-growth-"))
    versions = [Version("this version", PROJECT, folder / "this")]
    if baseline := os.environ.get("BENCH_BASELINE"):
        versions.insert(0, Version("baseline", Path(baseline).resolve(), folder / "baseline"))
    with _servers(folder, versions, {case.database: case for case in cases}) as kafka:
        runs = {case: _measure(kafka, versions, case, count, rounds) for case in cases}
    write("growth", _report(versions, runs, count, rounds))


@contextmanager
def _servers(folder: Path, versions: list[Version], cases: dict[str, Case]) -> Iterator[str]:
    """Start Kafka and a filled PostgreSQL per version; yield Kafka's address."""
    kafka = KafkaServer(_embedded_home(folder / "kafka", "kafka", "kafka-controller"))
    kafka.start()
    started: list[Version] = []
    try:
        kafka.wait()
        first, *others = versions
        first.start()
        started.append(first)
        for name, case in cases.items():
            log_progress(f"{first.name}: filling {name}")
            asyncio.run(_execute(first.url, f'CREATE DATABASE "{name}"'))
            first.step("prefill", with_database(first.url, name), case.contacts, case.stored)
        for other in others:
            first.stop()
            shutil.copytree(first.server, other.server)
            first.start()
            other.start()
            started.append(other)
            for name in cases:
                log_progress(f"{other.name}: migrating {name}")
                other.step("migrate", with_database(other.url, name))
        yield kafka.address
    finally:
        for version in started:
            version.stop()
        kafka.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _measure(
    kafka: str, versions: list[Version], case: Case, count: int, rounds: int
) -> dict[str, list[GrowthRun]]:
    """Return the runs of each version, made by turns on fresh copies of the database."""
    topics = {}
    for number, version in enumerate(versions):
        topics[version.name] = f"bench-{case.load}-{case.database}-{number}"
        version.step("fill", kafka, topics[version.name], case.load, case.contacts, count)
    runs: dict[str, list[GrowthRun]] = {version.name: [] for version in versions}
    for number in range(rounds):
        for version in versions:
            url = with_database(version.url, "run")
            copy = f'CREATE DATABASE run TEMPLATE "{case.database}" STRATEGY FILE_COPY'
            asyncio.run(_execute(version.url, copy))
            printed = version.step("run", kafka, topics[version.name], count, url)
            run = msgspec.json.decode(printed, type=GrowthRun)
            asyncio.run(_execute(version.url, "DROP DATABASE run"))
            runs[version.name].append(run)
            log_progress(
                f"{case.title}, round {number + 1}, {version.name}: {run.rate:,.0f}/s, "
                f"{run.python_us:.0f} + {run.postgres_us:.0f} µs"
            )
    return runs


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement, timeout=600)
    await connection.close()


def _report(
    versions: list[Version], runs: dict[Case, dict[str, list[GrowthRun]]], count: int, rounds: int
) -> str:
    """Return the tables: figures by case and version, and the longest statements."""
    lines = [
        f"{count:,} touchpoints, {rounds} rounds by turns, medians (lowest to highest of the CPU's "
        "sum). A run begins after a checkpoint and covers none unless it is said.",
        "",
        f"| | {' | '.join(_TITLES.values())} | CPU µs | MB |",
        "|---" * (len(_TITLES) + 3) + "|",
    ]
    for case, by_version in runs.items():
        lines += [
            _row(f"{case.title}, {version.name}", by_version[version.name]) for version in versions
        ]
    case, by_version = next(reversed(runs.items()))
    lines += ["", f"Statements of {case.title}, elapsed µs per touchpoint:", ""]
    for version in versions:
        middle = sorted(by_version[version.name], key=lambda run: run.postgres_us)[rounds // 2]
        ranked = "; ".join(f"{us:.1f} `{text}`" for us, text in middle.statements)
        lines.append(f"- {version.name}: {ranked}")
    return "\n".join(lines)


def _row(title: str, runs: list[GrowthRun]) -> str:
    cpu = sorted(run.python_us + run.postgres_us for run in runs)
    medians = {name: statistics.median(getattr(run, name) for run in runs) for name in _TITLES}
    cells = [f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in medians.values()]
    checkpoints = max(run.checkpoints for run in runs)
    note = f", {checkpoints} checkpoints" if checkpoints else ""
    memory = max(run.memory_mb for run in runs)
    return (
        f"| {title}{note} | {' | '.join(cells)} | {statistics.median(cpu):.0f} "
        f"({cpu[0]:.0f} to {cpu[-1]:.0f}) | {memory} |"
    )


if __name__ == "__main__":
    main()
