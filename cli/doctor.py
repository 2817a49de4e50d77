"""`perigee doctor`: each thing that Perigee stands on, green or red, and what cures it."""

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
from rich.console import Console
from rich.table import Table

from libs.common.compilation import PUBLISHER_MODULES
from libs.common.db.connection import connect
from libs.common.db.migrate import latest_revision
from libs.common.errors import PerigeeError
from libs.common.kafka import admin
from libs.common.topics import TOPICS
from services.ingest.compilation import FAST_PATH_MODULES
from services.scoring.compilation import FOLD_MODULES

SKEW_SECONDS = 2.0
_LEAST_FREE = 0.1
_SERVICES = ("INGEST_URL", "SCORING_URL", "ORCHESTRATOR_URL")


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at; a `fault` has its cure."""

    what: str
    said: str
    fault: bool = False
    cure: str = ""

    def shown(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"what": self.what, "said": self.said, "fault": self.fault, "cure": self.cure}


DoctorCheck = Callable[[dict[str, str]], Awaitable[list[Finding]]]


def print_findings(found: list[Finding]) -> None:
    """Print findings as a table."""
    table = Table("", "what", "", "cure")
    for one in found:
        table.add_row("[red]✗[/]" if one.fault else "[green]✓[/]", one.what, one.said, one.cure)
    Console().print(table)


async def run_checks(settings: dict[str, str]) -> list[Finding]:
    """Return what there is to say of each thing, those at the bottom first."""
    found: list[Finding] = []
    for what, one in _LOOKS.items():
        try:
            found += await asyncio.wait_for(one(settings), 20)
        except (PerigeeError, OSError, TimeoutError) as error:
            found.append(Finding(what, str(error) or type(error).__name__, True, _CURES[what]))
    return found


async def _database(settings: dict[str, str]) -> list[Finding]:
    connection = await connect(settings["DATABASE_URL"], application="perigee-doctor")
    try:
        version = await connection.fetchval("SELECT current_setting('server_version')")
        skew = abs(
            float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
            - time.time()
        )
        findings = [Finding("PostgreSQL", f"answers, version {version}")]
        findings.append(
            Finding("clocks", f"{skew:.1f} s between here and PostgreSQL", skew > SKEW_SECONDS,
                    "set the clocks by NTP: reasons and time-outs depend on them" if skew > SKEW_SECONDS else "")
        )  # fmt: skip
        there = await connection.fetchval("SELECT to_regclass('schema_version') IS NOT NULL")
        schema = (
            await connection.fetchval("SELECT version_num FROM schema_version") if there else "none"
        )
        old = schema != latest_revision()
        findings.append(
            Finding(
                "schema",
                f"{schema}, this Perigee's is {latest_revision()}",
                old,
                "perigee db migrate" if old else "",
            )
        )
        return findings if old else [*findings, *await _rows(connection)]
    finally:
        await connection.close()


_WRONG = (
    ("refused outbox rows", "SELECT (SELECT count(*) FROM scoring.outbox WHERE refused IS NOT NULL AND NOT skipped) "
     "+ (SELECT count(*) FROM orchestrator.outbox WHERE refused IS NOT NULL AND NOT skipped)",
     "perigee outbox list, then resend or skip"),
    ("fold errors", "SELECT count(*) FROM scoring.fold_errors", "perigee cycle validate, then publish a mended version"),
    ("actions in doubt", "SELECT count(*) FROM orchestrator.actions WHERE status = 'in_doubt'",
     "look at them in orchestrator.actions: nobody knows whether they went out"),
    ("disabled subscriptions", "SELECT count(*) FROM orchestrator.subscriptions WHERE status = 'disabled'",
     "perigee subscription list, then resume: nothing is lost"),
)  # fmt: skip


async def _rows(connection: Any) -> list[Finding]:
    found = []
    for what, query, cure in _WRONG:
        count = await connection.fetchval(query)
        found.append(Finding(what, f"{count}", count > 0, cure if count else ""))
    return found


async def _kafka(settings: dict[str, str]) -> list[Finding]:
    client = await admin.connect_admin(settings["KAFKA_BOOTSTRAP_SERVERS"])
    try:
        present = {
            t["topic"]: len(t["partitions"])
            for t in await client.describe_topics()
            if not t["error_code"]
        }
        brokers = len((await client.describe_cluster())["brokers"])
    finally:
        await client.close()
    missing = [topic.name for topic in TOPICS if topic.name not in present]
    wanted = int(settings.get("PERIGEE_PARTITIONS", "6"))
    wrong = {t.name: present[t.name] for t in TOPICS if present.get(t.name, wanted) != wanted}
    said = (
        f"missing: {', '.join(missing)}"
        if missing
        else f"{wrong} partitions"
        if wrong
        else "all there"
    )
    cure = (
        "perigee topics apply"
        if missing
        else "set PERIGEE_PARTITIONS to what they have"
        if wrong
        else ""
    )
    return [
        Finding("Kafka", f"answers, {brokers} broker{'s' if brokers > 1 else ''}"),
        Finding("topics", said, bool(missing or wrong), cure),
    ]


async def _services(settings: dict[str, str]) -> list[Finding]:
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        return [await _service(client, name, settings.get(name, "")) for name in _SERVICES]


async def _service(client: httpx2.AsyncClient, name: str, url: str) -> Finding:
    what = name.removesuffix("_URL").lower()
    if not url:
        return Finding(what, f"{name} is not set", True, 'eval "$(perigee env)", or set it')
    try:
        ready, alive = [(await client.get(f"{url}/{path}")).json() for path in ("readyz", "livez")]
    except (httpx2.HTTPError, ValueError) as error:
        return Finding(
            what,
            f"{url}: {type(error).__name__}",
            True,
            "start it: perigee up, or docker compose up --detach",
        )
    faults = [f"{check}: {fault}" for check, fault in ready["checks"].items() if fault]
    faults += [alive["fault"]] if alive["fault"] else []
    cure = "mend what it names; it goes on by itself" if faults else ""
    return Finding(what, "; ".join(faults) or f"ready at {url}", bool(faults), cure)


async def _mail(settings: dict[str, str]) -> list[Finding]:
    where = urlsplit(settings.get("SMTP_URL", ""))
    if not where.hostname:
        return []
    with socket.create_connection((where.hostname, where.port or 25), timeout=5):
        return [Finding("mail server", f"answers at {where.hostname}:{where.port or 25}")]


async def _machine(settings: dict[str, str]) -> list[Finding]:
    disk = shutil.disk_usage(settings.get("PERIGEE_HOME") or ".")
    full = disk.free < disk.total * _LEAST_FREE
    keys = [name for name in ("PERIGEE_ADMIN_KEY", "PERIGEE_SERVICE_KEY") if not settings.get(name)]
    return [
        Finding(
            "disk",
            f"{disk.free / 1e9:.1f} GB free of {disk.total / 1e9:.1f}",
            full,
            "make room" if full else "",
        ),
        *(
            Finding(
                f"the {part.name}",
                f"runs {(how := part.mode())}",
                cure="make setup with a C compiler: several times as fast"
                if how != "compiled"
                else "",
            )
            for part in (FOLD_MODULES, FAST_PATH_MODULES, PUBLISHER_MODULES)
        ),
        Finding(
            "keys",
            f"{', '.join(keys)} not set" if keys else "set",
            bool(keys),
            "make env, or set them" if keys else "",
        ),
        Finding("processors", str(os.cpu_count())),
    ]


_LOOKS: dict[str, DoctorCheck] = {
    "machine": _machine,
    "PostgreSQL": _database,
    "Kafka": _kafka,
    "mail server": _mail,
    "services": _services,
}
_CURES = {
    "machine": "make setup",
    "PostgreSQL": "start it: perigee up, or docker compose up --detach postgres; DATABASE_URL says where it should be",
    "Kafka": "start it: perigee up, or docker compose up --detach kafka; KAFKA_BOOTSTRAP_SERVERS says where it should be",
    "mail server": "SMTP_URL says where it should be; mails wait meanwhile and are tried again",
    "services": "perigee up, or docker compose up --detach",
}
