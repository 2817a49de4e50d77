"""Finds a real Kafka and a real PostgreSQL for the tests: given ones, containers, or embedded ones.

`PERIGEE_TEST_SERVERS=given|containers|embedded` forces one; without it the first that works is taken, and one line says
which and why.
"""

import asyncio
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cli.home import Home
from cli.servers.kafka import KafkaServer
from cli.servers.postgres import PostgresServer
from libs.common.errors import PerigeeError
from libs.common.kafka.admin import get_cluster_id

KAFKA_IMAGE = "apache/kafka:4.1.0"
POSTGRES_IMAGE = "postgres:18"


class Servers(msgspec.Struct):
    """Where the servers are, and how they are ended."""

    kafka: str
    database: str
    why: str
    stop: Callable[[], None]
    session_timeout_ms: int


def find_servers() -> Servers:
    """Return running servers. Raises RuntimeError when the forced kind cannot be had: no test is skipped for that."""
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
    return _embedded(fault)


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _containers(why: str) -> Servers:
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.core.container import DockerContainer

    port = _free_port()
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "CONTROLLER://:29093,PLAINTEXT_HOST://:9092,PLAINTEXT://:19092",
        "ADVERTISED_LISTENERS": f"PLAINTEXT_HOST://127.0.0.1:{port},PLAINTEXT://localhost:19092",
        "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
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
    postgres: Any = PostgresContainer(
        POSTGRES_IMAGE, username="perigee", password="perigee", dbname="perigee", driver=None
    )
    postgres = postgres.with_command("postgres -c max_connections=200")
    kafka.start()
    postgres.start()
    address = f"127.0.0.1:{port}"
    _wait_for_kafka(address)

    def stop() -> None:
        kafka.stop()
        postgres.stop()

    return Servers(address, postgres.get_connection_url(), f"containers: {why}", stop, 1_500)


def _wait_for_kafka(address: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            asyncio.run(get_cluster_id(address))
        except PerigeeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)
        else:
            return


def _embedded(why: str) -> Servers:
    folder = Path(tempfile.mkdtemp(prefix="perigee-test-"))
    home = Home(folder)
    home.create()
    # Ports of their own, so that a running instance and the tests leave each other alone.
    home.write("ports", {name: _free_port() for name in ("kafka", "kafka-controller", "postgres")})
    kafka, postgres = KafkaServer(home), PostgresServer(home)
    kafka.start()
    postgres.start()
    kafka.wait()
    postgres.wait()

    def stop() -> None:
        kafka.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)

    return Servers(kafka.address, postgres.url(), f"embedded: {why}", stop, 1_500)
