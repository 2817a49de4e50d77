"""The compose stack, a sender of touchpoints, and waits for stored touchpoints and deliveries."""

import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2

from cli.home import PROJECT
from tests.support.servers import _free_port

SERVICES = ("ingest", "scoring", "orchestrator", "proxy")

SERVERS = ("kafka", "postgres")


class Compose:
    """Compose project with random secrets and free ports."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = folder / "env"
        self.values = {
            name: secrets.token_urlsafe(24).replace("-", "x").replace("_", "y")
            for name in (
                "POSTGRES_PASSWORD",
                "PERIGEE_ADMIN_KEY",
                "PERIGEE_SERVICE_KEY",
                "WRITE_KEY",
                "ORCHESTRATOR_WRITE_KEY",
                "UNSUBSCRIBE_SECRET",
                "GRAFANA_PASSWORD",
            )
        }
        self.values |= {"PUBLIC_URL": self.url, "SMTP_URL": "smtp://mail:1025"}
        self.values["PERIGEE_PORT"] = str(self.port)
        self.values["PROMETHEUS_PORT"] = str(_free_port())
        self.env.write_text("".join(f"{name}={value}\n" for name, value in self.values.items()))
        self.durations: dict[str, float] = {}

    def run(self, *arguments: str, check: bool = True, timeout: float = 600) -> str:
        """Run `docker compose` and return its output."""
        command = [
            "docker", "compose", "-p", "perigee-test", "--env-file", str(self.env),
            "-f", "docker-compose.yml", "-f", "tests/compose/receiver.yaml", *arguments,
        ]  # fmt: skip
        clean = {name: value for name, value in os.environ.items() if name not in self.values}
        completed = subprocess.run(
            command,
            cwd=PROJECT,
            env=clean,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert completed.returncode == 0 or not check, (
            f"{' '.join(arguments)}\n{completed.stdout[-2_000:]}\n{completed.stderr[-3_000:]}"
        )
        return completed.stdout

    def up(self, label: str, *more: str) -> None:
        """Start missing containers, wait until they are healthy, and record the duration."""
        started = time.monotonic()
        self.run("up", "--detach", "--wait", "--wait-timeout", "240", *more)
        self.durations[label] = time.monotonic() - started

    def inspect(self, service: str) -> list[Any]:
        """Return the engine's description of a service's containers."""
        ids = self.run("ps", "--quiet", service).split()
        containers: list[Any] = json.loads(subprocess.check_output(["docker", "inspect", *ids]))
        return containers

    def kill(self, service: str) -> None:
        """Kill a service's process from outside; the engine restarts it."""
        (container,) = self.inspect(service)
        os.kill(container["State"]["Pid"], signal.SIGKILL)

    def query(self, sql: str) -> str:
        """Run a query."""
        return self.run("exec", "-T", "postgres", "psql", "-U", "perigee", "-At", "-c", sql).strip()

    def wait_until_healthy(self, *services: str, seconds: float = 120) -> None:
        """Wait until services are healthy."""
        end = time.monotonic() + seconds
        while any(
            container["State"].get("Health", {}).get("Status") != "healthy"
            for service in services
            for container in self.inspect(service)
        ):
            assert time.monotonic() < end, services
            time.sleep(0.5)

    def call(self, method: str, path: str, **options):
        """Call an admin route through the proxy."""
        headers = {"Authorization": f"Bearer {self.values['PERIGEE_ADMIN_KEY']}"}
        response = httpx2.request(
            method, self.url + path, headers=headers, trust_env=False, timeout=30, **options
        )
        assert response.is_success, response.text
        return response.json()

    def deliveries(self) -> list[Any]:
        """Return the receiver's deliveries."""
        output = self.run("exec", "-T", "receiver", "cat", "/deliveries/all.ndjson", check=False)
        return [json.loads(line) for line in output.splitlines() if line.endswith("}")]


class Sender:
    """Sends each batch until it is accepted, as a library does."""

    def __init__(self, stack: Compose) -> None:
        self.client = httpx2.Client(
            auth=(stack.values["WRITE_KEY"], ""), trust_env=False, timeout=10
        )
        self.url = f"{stack.url}/v1/batch"
        self.accepted: list[str] = []
        self.refusals = 0

    def send(self, count: int, seconds: float = 120) -> None:
        """Send a batch of touchpoints of new contacts, with an order each."""
        names = [f"m{len(self.accepted) + number}" for number in range(count)]
        batch = [
            {"type": "track", "event": "Order Completed", "userId": f"u-{n}", "messageId": n}
            for n in names
        ]
        end = time.monotonic() + seconds
        while True:
            try:
                response = self.client.post(self.url, json={"batch": batch})
            except httpx2.HTTPError:
                response = None
            if response is not None and response.status_code == 200:
                break
            self.refusals += 1
            assert time.monotonic() < end, response and response.text
            time.sleep(0.3)
        self.accepted += names


def wait_until_stored(stack, sender, seconds=120):
    """Wait until all accepted touchpoints are stored, and assert that no others are."""
    end = time.monotonic() + seconds
    while True:
        message_ids = stack.query(
            "SELECT message_id FROM scoring.touchpoints WHERE source = 'default'"
        ).split()
        if len(message_ids) >= len(sender.accepted):
            break
        assert time.monotonic() < end, (len(message_ids), len(sender.accepted))
        time.sleep(0.5)
    assert sorted(message_ids) == sorted(sender.accepted)


def wait_until_delivered(stack, sender, seconds=180):
    """Wait until the receiver has each stage change at least once; return its deliveries."""
    end = time.monotonic() + seconds
    while True:
        deliveries = stack.deliveries()
        identifiers = {
            name
            for delivery in deliveries
            for name in json.loads(delivery["body"])["data"]["identifiers"]
        }
        if identifiers >= {f"user_id:u-{name}" for name in sender.accepted}:
            return deliveries
        assert time.monotonic() < end, (len(identifiers), len(sender.accepted))
        time.sleep(1)
