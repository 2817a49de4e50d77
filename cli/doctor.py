"""`perigee doctor`: checks of servers, services and machine, with the cure of each fault.

PostgreSQL and Kafka are checked directly, so that it works while no service runs.
"""

import asyncio
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
from rich.console import Console
from rich.table import Table

from cli.servers.postgres_settings import SETTINGS_QUERY, list_cures
from libs.common.compilation import PUBLISHER_MODULES
from libs.common.db.connection import connect
from libs.common.db.migrate import latest_revision
from libs.common.errors import PerigeeError
from libs.common.kafka import admin
from libs.common.topics import TOPICS

MAX_SKEW_SECONDS = 2.0
MIN_FREE_DISK = 0.1
"""Part of the disk that has to be free."""
CHECK_SECONDS = 20
_SERVICES = ("INGEST_URL", "SCORING_URL", "ORCHESTRATOR_URL")
_SERVICES_WITH_STATUS = ("SCORING_URL", "ORCHESTRATOR_URL")
_START_SERVICES = "perigee up, or docker compose up --detach"
_COMPILE = "make setup with a C compiler: several times as fast"


class Finding(msgspec.Struct, frozen=True):
    """The result of one check; a `fault` has its cure."""

    subject: str
    result: str
    fault: bool = False
    cure: str = ""

    def to_document(self) -> dict[str, Any]:
        """Return the finding as JSON shows it."""
        return {
            "what": self.subject,
            "said": self.result,
            "fault": self.fault,
            "cure": self.cure,
        }


DoctorCheck = Callable[[dict[str, str]], Awaitable[list[Finding]]]


def print_findings(findings: list[Finding]) -> None:
    """Print findings as a table."""
    table = Table("", "check", "result", "cure")
    for finding in findings:
        mark = "[red]✗[/]" if finding.fault else "[green]✓[/]"
        table.add_row(mark, finding.subject, finding.result, finding.cure)
    Console().print(table)


async def run_checks(environment: dict[str, str]) -> list[Finding]:
    """Return the findings of every check, machine and servers before services."""
    findings: list[Finding] = []
    for subject, check in _CHECKS.items():
        try:
            findings += await asyncio.wait_for(check(environment), CHECK_SECONDS)
        except (PerigeeError, OSError, TimeoutError) as error:
            result = str(error) or type(error).__name__
            findings.append(Finding(subject, result, True, _CURES[subject]))
    return findings


async def _check_database(environment: dict[str, str]) -> list[Finding]:
    if "DATABASE_URL" not in environment:
        return [Finding("PostgreSQL", "DATABASE_URL is not set", True, _CURES["PostgreSQL"])]
    connection = await connect(environment["DATABASE_URL"], application="perigee-doctor")
    try:
        version = await connection.fetchval("SELECT current_setting('server_version')")
        clock = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())")
        skew = abs(float(clock) - time.time())
        exists = await connection.fetchval("SELECT to_regclass('schema_version') IS NOT NULL")
        schema = (
            await connection.fetchval("SELECT version_num FROM schema_version")
            if exists
            else "none"
        )
        rows = await connection.fetch(SETTINGS_QUERY)
        cures = list_cures({name: (number, text) for name, number, text in rows})
    finally:
        await connection.close()
    is_skewed, is_old = skew > MAX_SKEW_SECONDS, schema != latest_revision()
    return [
        Finding("PostgreSQL", f"answers, version {version}"),
        Finding(
            "clocks",
            f"{skew:.1f} s between here and PostgreSQL",
            is_skewed,
            "set the clocks by NTP: reasons and time-outs depend on them" if is_skewed else "",
        ),
        Finding(
            "schema",
            f"{schema}, this Perigee's is {latest_revision()}",
            is_old,
            "perigee db migrate" if is_old else "",
        ),
        Finding(
            "PostgreSQL's settings",
            f"{len(cures)} to change" if cures else "fit the load",
            bool(cures),
            "; ".join(cures),
        ),
    ]


async def _check_kafka(environment: dict[str, str]) -> list[Finding]:
    if "KAFKA_BOOTSTRAP_SERVERS" not in environment:
        return [Finding("Kafka", "KAFKA_BOOTSTRAP_SERVERS is not set", True, _CURES["Kafka"])]
    client = await admin.connect_admin(environment["KAFKA_BOOTSTRAP_SERVERS"])
    try:
        present = {
            topic["topic"]: len(topic["partitions"])
            for topic in await client.describe_topics()
            if not topic["error_code"]
        }
        brokers = len((await client.describe_cluster())["brokers"])
    finally:
        await client.close()
    missing = [topic.name for topic in TOPICS if topic.name not in present]
    partitions = int(environment.get("PERIGEE_PARTITIONS", "6"))
    wrong = {
        topic.name: present[topic.name]
        for topic in TOPICS
        if present.get(topic.name, partitions) != partitions
    }
    if missing:
        state, cure = f"missing: {', '.join(missing)}", "perigee topics apply"
    elif wrong:
        state, cure = f"{wrong} partitions", "set PERIGEE_PARTITIONS to the topics' number"
    else:
        state, cure = "all there", ""
    return [
        Finding("Kafka", f"answers, {brokers} broker{'s' if brokers > 1 else ''}"),
        Finding("topics", state, bool(missing or wrong), cure),
    ]


async def _check_services(environment: dict[str, str]) -> list[Finding]:
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        findings: list[Finding] = []
        for name in _SERVICES:
            findings += await _check_service(client, name, environment.get(name, ""))
        return findings + await _check_problems(client, environment)


async def _check_service(client: httpx2.AsyncClient, name: str, url: str) -> list[Finding]:
    service = name.removesuffix("_URL").lower()
    if not url:
        return [Finding(service, f"{name} is not set", True, 'eval "$(perigee env)", or set it')]
    try:
        ready, alive = [(await client.get(f"{url}/{path}")).json() for path in ("readyz", "livez")]
    except (httpx2.HTTPError, ValueError) as error:
        fault = f"{url}: {type(error).__name__}"
        return [Finding(service, fault, True, f"start it: {_START_SERVICES}")]
    faults = [f"{check}: {fault}" for check, fault in ready["checks"].items() if fault]
    faults += [alive["fault"]] if alive["fault"] else []
    cure = "remove the fault; the service goes on by itself" if faults else ""
    return [
        Finding(service, "; ".join(faults) or f"ready at {url}", bool(faults), cure),
        *(
            Finding(f"the {part}", f"runs {mode}", cure="" if mode == "compiled" else _COMPILE)
            for part, mode in alive.get("modules", {}).items()
            if part != PUBLISHER_MODULES.name
        ),
    ]


_PROBLEM_CURES = {
    "refused outbox rows": "perigee outbox list, then resend or skip",
    "fold errors": "perigee cycle validate, then publish a corrected version",
    "actions in doubt": "perigee action list --status in_doubt, then arrived, lost or retry",
    "disabled subscriptions": "perigee subscription list, then resume: nothing is lost",
}


async def _check_problems(client: httpx2.AsyncClient, environment: dict[str, str]) -> list[Finding]:
    """Return the problems that wait for the operator, of the services that answer."""
    headers = {"Authorization": f"Bearer {environment.get('PERIGEE_ADMIN_KEY', '')}"}
    problems: Counter[str] = Counter()
    for name in _SERVICES_WITH_STATUS:
        if not environment.get(name):
            continue
        path = f"/admin/v1/{name.removesuffix('_URL').lower()}/status"
        try:
            answer = await client.get(environment[name] + path, headers=headers)
            if answer.is_success:
                problems.update(answer.json()["problems"])
        except (httpx2.HTTPError, ValueError):
            continue  # the service's own finding names the fault
    return [
        Finding(problem, f"{count}", count > 0, _PROBLEM_CURES.get(problem, "") if count else "")
        for problem, count in problems.items()
    ]


async def _check_mail(environment: dict[str, str]) -> list[Finding]:
    url = urlsplit(environment.get("SMTP_URL", ""))
    if not url.hostname:
        return []
    port = url.port or 25
    with socket.create_connection((url.hostname, port), timeout=5):
        return [Finding("mail server", f"answers at {url.hostname}:{port}")]


async def _check_machine(environment: dict[str, str]) -> list[Finding]:
    disk = shutil.disk_usage(environment.get("PERIGEE_HOME") or ".")
    is_full = disk.free < disk.total * MIN_FREE_DISK
    missing_keys = [
        name for name in ("PERIGEE_ADMIN_KEY", "PERIGEE_SERVICE_KEY") if not environment.get(name)
    ]
    publisher_mode = PUBLISHER_MODULES.mode()
    return [
        Finding(
            "disk",
            f"{disk.free / 1e9:.1f} GB free of {disk.total / 1e9:.1f}",
            is_full,
            "free some space" if is_full else "",
        ),
        Finding(
            f"the {PUBLISHER_MODULES.name}",
            f"runs {publisher_mode}",
            cure="" if publisher_mode == "compiled" else _COMPILE,
        ),
        Finding(
            "keys",
            f"{', '.join(missing_keys)} not set" if missing_keys else "set",
            bool(missing_keys),
            "make env, or set them" if missing_keys else "",
        ),
        Finding("processors", str(os.cpu_count())),
    ]


_CHECKS: dict[str, DoctorCheck] = {
    "machine": _check_machine,
    "PostgreSQL": _check_database,
    "Kafka": _check_kafka,
    "mail server": _check_mail,
    "services": _check_services,
}
_CURES = {
    "machine": "make setup",
    "PostgreSQL": f"start it: {_START_SERVICES} postgres; its address is DATABASE_URL",
    "Kafka": f"start it: {_START_SERVICES} kafka; its address is KAFKA_BOOTSTRAP_SERVERS",
    "mail server": "its address is SMTP_URL; mails wait meanwhile and are tried again",
    "services": _START_SERVICES,
}
