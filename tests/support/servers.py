"""A real Kafka and a real PostgreSQL for tests and benchmarks: given, in containers, or embedded.

`PERIGEE_TEST_SERVERS=given|containers|embedded` forces a kind; without it the first that works is
taken, and one line names it with the reason. All processes of a test run share what
`tests.support.server_host` starts for them.
"""

import asyncio
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import asyncpg
import msgspec

from cli.home import Home
from cli.servers.kafka import KafkaServer
from cli.servers.postgres import PostgresServer
from libs.common.errors import PerigeeError
from libs.common.kafka.admin import get_cluster_id
from tests.support.server_host import MARK
from tests.support.waiting import block_until

KAFKA_IMAGE = "apache/kafka:4.1.0"
POSTGRES_IMAGE = "postgres:18"
_PORTS = random.SystemRandom()
_MANY_CONNECTIONS = {"max_connections": "600"}
_SMALL = {"shared_buffers": "256MB", "max_wal_size": "2GB"}
"""Each of many databases is created, and dropped, faster with few buffers to search."""
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
"""Safe against a crash of the server; only a crash of the machine loses data."""


class Servers(msgspec.Struct):
    """Addresses of running servers, and the function that stops them."""

    kafka: str
    database: str
    why: str
    stop: Callable[[], None]
    session_timeout_ms: int
    start_kafka: Callable[[], str] | None = None
    """Starts another broker and returns its address; None where there can be only the given one."""


def find_servers(*, durable: bool = True) -> Servers:
    """Return running servers; embedded PostgreSQL calls fsync only where `durable`.

    Raises RuntimeError when the forced kind cannot be had: no test is skipped for that.
    """
    forced = os.environ.get("PERIGEE_TEST_SERVERS", "")
    given = "KAFKA_BOOTSTRAP_SERVERS" in os.environ and "DATABASE_URL" in os.environ
    if forced not in ("", "given", "containers", "embedded"):
        raise RuntimeError(f"PERIGEE_TEST_SERVERS={forced}: one of given, containers, embedded")
    if forced == "given" or (not forced and given):
        if not given:
            raise RuntimeError(
                "PERIGEE_TEST_SERVERS=given needs KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL"
            )
        why = "given: KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL are set"
        return Servers(
            os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            os.environ["DATABASE_URL"],
            why,
            lambda: None,
            6_000,
        )
    fault = "forced" if forced == "embedded" else _docker_fault()
    if forced == "containers" and fault:
        raise RuntimeError(f"PERIGEE_TEST_SERVERS=containers: {fault}")
    if not fault:
        return _containers("forced" if forced else "a Docker engine answers and has the images")
    return _embedded(fault, durable=durable)


def with_database(url: str, name: str) -> str:
    """Return the DSN of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def execute(url: str, work: str | Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    """Execute a statement, or a function, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await (connection.execute(work) if isinstance(work, str) else work(connection))
    finally:
        await connection.close()


def _docker_fault() -> str:
    """Return why containers cannot be used, or nothing."""
    import docker

    try:
        client = docker.from_env(timeout=5)
        client.ping()
    except (docker.errors.DockerException, OSError):
        return "no Docker engine answers"
    for image in (KAFKA_IMAGE, POSTGRES_IMAGE):
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            try:
                client.images.pull(image)
            except (docker.errors.APIError, OSError):
                return f"the image {image} is not there and cannot be pulled"
    return ""


def _free_port() -> int:
    """Return a port below the ephemeral ones, so that no outgoing connection takes it meanwhile."""
    while True:
        port = _PORTS.randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _kafka_container() -> tuple[Any, str]:
    from testcontainers.core.container import DockerContainer

    port = _free_port()
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "CONTROLLER://:29093,PLAINTEXT_HOST://:9092,PLAINTEXT://:19092",
        "ADVERTISED_LISTENERS": f"PLAINTEXT_HOST://127.0.0.1:{port},PLAINTEXT://localhost:19092",
        "LISTENER_SECURITY_PROTOCOL_MAP": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT"
        ),
        "INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "GROUP_MIN_SESSION_TIMEOUT_MS": "500",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    kafka: Any = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for name, value in settings.items():
        kafka = kafka.with_env(f"KAFKA_{name}", value)
    kafka.start()
    return kafka, f"127.0.0.1:{port}"


def _containers(why: str) -> Servers:
    from testcontainers.community.postgres import PostgresContainer

    postgres: Any = PostgresContainer(
        POSTGRES_IMAGE, username="perigee", password="perigee", dbname="perigee", driver=None
    )
    postgres = postgres.with_command("postgres -c max_connections=600")
    postgres.start()
    containers = [postgres]

    def start_kafka() -> str:
        kafka, address = _kafka_container()
        containers.append(kafka)
        block_until(lambda: _answers(address), 60, "an answer from Kafka", 0.3)
        return address

    def stop() -> None:
        for container in reversed(containers):
            container.stop()

    url = postgres.get_connection_url()
    return Servers(start_kafka(), url, f"containers: {why}", stop, 1_500, start_kafka)


def _answers(address: str) -> bool:
    try:
        asyncio.run(get_cluster_id(address))
    except PerigeeError:
        return False
    return True


def _embedded(why: str, *, durable: bool) -> Servers:
    folder = Path(tempfile.mkdtemp(prefix="perigee-test-", dir=os.environ.get(MARK)))
    home = _embedded_home(folder / "0", "kafka", "kafka-controller", "postgres")
    kafka, postgres = KafkaServer(home), PostgresServer(home)
    brokers = [kafka]
    kafka.start()
    options = _MANY_CONNECTIONS if durable else {**_MANY_CONNECTIONS, **_SMALL, **_NOT_DURABLE}
    with mock.patch.dict("cli.servers.postgres._OPTIONS", options):
        postgres.start()
    kafka.wait()
    postgres.wait()

    def start_kafka() -> str:
        broker_home = _embedded_home(folder / str(len(brokers)), "kafka", "kafka-controller")
        broker = KafkaServer(broker_home)
        brokers.append(broker)
        broker.start()
        broker.wait()
        return broker.address

    def stop() -> None:
        for broker in brokers:
            broker.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)

    return Servers(kafka.address, postgres.url(), f"embedded: {why}", stop, 1_500, start_kafka)


def _embedded_home(folder: Path, *names: str) -> Home:
    """Return a home with ports that no instance outside the tests uses."""
    home = Home(folder)
    home.create()
    home.write("ports", {name: _free_port() for name in names})
    return home
