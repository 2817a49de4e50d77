"""The compose file, run for real: `make test-compose`, on a Docker engine that has the images.

From a touchpoint at the proxy to a signed webhook; each container killed in turn under load; started again on old data; more
scoring; and what the containers may not do. What was accepted is what is stored.
"""

import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from standardwebhooks.webhooks import Webhook

from cli.home import PROJECT
from tests.support.servers import _free_port

pytestmark = pytest.mark.timeout(1_500)
SERVICES = ("ingest", "scoring", "orchestrator", "proxy")
SERVERS = ("kafka", "postgres")


class Compose:
    """One stack under a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = folder / "env"
        self.values = {
            name: secrets.token_urlsafe(24).replace("-", "x").replace("_", "y")
            for name in ("POSTGRES_PASSWORD", "PERIGEE_ADMIN_KEY", "PERIGEE_SERVICE_KEY", "WRITE_KEY",
                         "ORCHESTRATOR_WRITE_KEY", "UNSUBSCRIBE_SECRET", "GRAFANA_PASSWORD")
        } | {"PUBLIC_URL": self.url, "SMTP_URL": "smtp://mail:1025", "PERIGEE_PORT": str(self.port)}  # fmt: skip
        self.values["PROMETHEUS_PORT"] = str(_free_port())
        self.env.write_text("".join(f"{name}={value}\n" for name, value in self.values.items()))
        self.times: dict[str, float] = {}

    def run(self, *arguments: str, check: bool = True, timeout: float = 600) -> str:
        """Run `docker compose` and return what it printed."""
        command = ["docker", "compose", "-p", "perigee-test", "--env-file", str(self.env), "-f", "docker-compose.yml",
                   "-f", "tests/compose/receiver.yaml", *arguments]  # fmt: skip
        clean = {name: value for name, value in os.environ.items() if name not in self.values}
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=clean,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, (
            f"{' '.join(arguments)}\n{done.stdout[-2_000:]}\n{done.stderr[-3_000:]}"
        )
        return done.stdout

    def up(self, what: str, *more: str) -> None:
        """Start what is missing and wait until it is healthy; note how long it took."""
        begun = time.monotonic()
        self.run("up", "--detach", "--wait", "--wait-timeout", "240", *more)
        self.times[what] = time.monotonic() - begun

    def inspect(self, service: str) -> list[Any]:
        """Return what the engine knows of a service's containers."""
        ids = self.run("ps", "--quiet", service).split()
        found: list[Any] = json.loads(subprocess.check_output(["docker", "inspect", *ids]))
        return found

    def kill(self, service: str) -> None:
        """Kill a service's process from outside, as a crash would: the engine starts it again."""
        (found,) = self.inspect(service)
        os.kill(found["State"]["Pid"], signal.SIGKILL)

    def query(self, sql: str) -> str:
        """Ask the database."""
        return self.run("exec", "-T", "postgres", "psql", "-U", "perigee", "-At", "-c", sql).strip()

    def healthy(self, *services: str, seconds: float = 120) -> None:
        """Wait until services are healthy."""
        end = time.monotonic() + seconds
        while any(
            one["State"].get("Health", {}).get("Status") != "healthy"
            for s in services
            for one in self.inspect(s)
        ):
            assert time.monotonic() < end, services
            time.sleep(0.5)

    def call(self, method: str, path: str, **options):
        """Call an admin route through the proxy."""
        headers = {"Authorization": f"Bearer {self.values['PERIGEE_ADMIN_KEY']}"}
        answer = httpx2.request(
            method, self.url + path, headers=headers, trust_env=False, timeout=30, **options
        )
        assert answer.is_success, answer.text
        return answer.json()

    def deliveries(self) -> list[Any]:
        """Return what the receiver was sent."""
        said = self.run("exec", "-T", "receiver", "cat", "/deliveries/all.ndjson", check=False)
        return [json.loads(line) for line in said.splitlines() if line.endswith("}")]


class Sender:
    """Sends touchpoints until each is taken, as a library does."""

    def __init__(self, stack: Compose) -> None:
        self.client = httpx2.Client(
            auth=(stack.values["WRITE_KEY"], ""), trust_env=False, timeout=10
        )
        self.url = f"{stack.url}/v1/batch"
        self.accepted: list[str] = []
        self.refusals = 0

    def send(self, count: int, seconds: float = 120) -> None:
        """Send a batch by new people, who come into the cycle by it."""
        names = [f"m{len(self.accepted) + number}" for number in range(count)]
        batch = [
            {"type": "track", "event": "Order Completed", "userId": f"u-{n}", "messageId": n}
            for n in names
        ]
        end = time.monotonic() + seconds
        while True:
            try:
                answer = self.client.post(self.url, json={"batch": batch})
            except httpx2.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 200:
                break
            self.refusals += 1
            assert time.monotonic() < end, answer and answer.text
            time.sleep(0.3)
        self.accepted += names


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    found = Compose(tmp_path_factory.mktemp("compose"))
    begun = time.monotonic()
    found.run("build", "--quiet", timeout=1_200)
    found.times["build"] = time.monotonic() - begun
    found.run("down", "--volumes", "--remove-orphans")
    try:
        found.up("first start")
        yield found
    except BaseException:
        print(found.run("logs", "--tail", "40", check=False)[-12_000:])
        raise
    finally:
        print({what: f"{seconds:.1f} s" for what, seconds in found.times.items()})
        found.run("--profile", "tools", "--profile", "obs", "down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def sender(stack):
    return Sender(stack)


def stored(stack, sender, seconds=120):
    """Wait until everything accepted is stored, and nothing else is."""
    end = time.monotonic() + seconds
    while True:
        found = stack.query(
            "SELECT message_id FROM scoring.touchpoints WHERE source = 'default'"
        ).split()
        if len(found) >= len(sender.accepted):
            break
        assert time.monotonic() < end, (len(found), len(sender.accepted))
        time.sleep(0.5)
    assert sorted(found) == sorted(sender.accepted)


def told(stack, sender, seconds=180):
    """Wait until the receiver has every stage change once at least; return what it has."""
    end = time.monotonic() + seconds
    while True:
        found = stack.deliveries()
        known = {name for one in found for name in json.loads(one["body"])["data"]["identifiers"]}
        if known >= {f"user_id:u-{name}" for name in sender.accepted}:
            return found
        assert time.monotonic() < end, (len(known), len(sender.accepted))
        time.sleep(1)


def test_the_plays_that_ship_are_behind_the_proxy(stack):
    found = {one["play"]: one["status"] for one in stack.call("GET", "/admin/v1/plays")}
    assert len(found) >= 10
    assert set(found.values()) == {"live"}
    assert stack.call("GET", "/v1/compelling-events") == []


def test_a_touchpoint_at_the_proxy_becomes_a_signed_webhook(stack, sender):
    made = stack.call(
        "POST", "/admin/v1/subscriptions", json={"name": "crm", "url": "http://receiver:8000/hook"}
    )
    begun = time.monotonic()
    sender.send(1)
    (one,) = told(stack, sender)
    stack.times["touchpoint to webhook, with a look every second"] = time.monotonic() - begun
    said = Webhook(made["secret"]).verify(one["body"], one["headers"])
    assert (said["type"], said["data"]["stage"]) == (
        "perigee.stage_change.v1",
        {"from": None, "to": "customer"},
    )
    stored(stack, sender)
    shown = json.loads(stack.run("run", "--rm", "perigee", "subscription", "show", "crm", "--json"))
    assert [attempt["status"] for attempt in shown["attempts"]] == [200]


@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/livez", "/%6detrics", "//metrics", "/METRICS", "/metrics/"]
)
def test_how_the_services_do_is_nobodys_outside(stack, path):
    answer = httpx2.get(stack.url + path, trust_env=False, follow_redirects=True)
    assert (answer.status_code, "perigee_" in answer.text) == (404, False)


def test_each_container_is_killed_in_turn_and_nothing_is_lost(stack, sender):
    for service in (*SERVICES, *SERVERS, "receiver"):
        begun = time.monotonic()
        sender.send(50)
        stack.kill(service)
        for _ in range(10):
            sender.send(20)
        if service != "receiver":
            stack.healthy(service)
        stack.times[f"{service} killed and healthy again, 250 sent meanwhile"] = (
            time.monotonic() - begun
        )
    stack.healthy(*SERVICES, *SERVERS)
    stored(stack, sender)
    told(stack, sender)
    print(f"{len(sender.accepted)} accepted, {sender.refusals} times not taken at once")


def test_scoring_scales_without_a_port_in_the_way(stack, sender):
    stack.up("scoring scaled to 3", "--scale", "scoring=3", "--no-recreate")
    assert len(stack.inspect("scoring")) == 3
    for _ in range(10):
        sender.send(50)
    stored(stack, sender)


def test_it_starts_again_on_old_data(stack, sender):
    stack.run("down")
    stack.up("start on old data")
    sender.send(10)
    stored(stack, sender)
    told(stack, sender)
    assert stack.call("GET", "/v1/contacts/u-m0")["cycles"]["engagement"]["stage"] == "customer"
    assert "none, all were there" in stack.run("logs", "migrate")


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_may_do_little(stack, service):
    for found in stack.inspect(service):
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert found["Config"]["User"] not in ("", "root", "0")
        assert any(found["NetworkSettings"]["Ports"].values()) == (service == "proxy")
    assert "0" not in stack.run("exec", "-T", service, "id", "-u").split()
    assert (
        stack.run("exec", "-T", service, "sh", "-c", "touch /x 2>/dev/null || echo refused").strip()
        == "refused"
    )


@pytest.mark.parametrize("service", ["ingest", "scoring", "orchestrator"])
def test_an_image_holds_its_service_alone(stack, service):
    assert stack.run("exec", "-T", service, "ls", "/app/services").split() == [service]
    packages = stack.run("exec", "-T", service, "ls", "/opt/perigee/lib/python3.12/site-packages")
    assert ("aiosmtplib" in packages) == (service == "orchestrator")
    assert ("cryptography" in packages) == (service == "ingest")
    assert "hypothesis" not in packages
    parts = {"scoring": "services.scoring.compilation.FOLD_MODULES"}
    for part in ("libs.common.compilation.PUBLISHER_MODULES", *filter(None, [parts.get(service)])):
        module, _, name = part.rpartition(".")
        how = f"from {module} import {name}; print({name}.how())"
        assert stack.run("exec", "-T", service, "python", "-c", how).strip() == "compiled"


def test_nothing_has_a_secret_by_default(stack, tmp_path):
    """Without its secrets the file is refused, and what writes them makes them anew each time."""
    (tmp_path / "none").write_text("")
    clean = {name: value for name, value in os.environ.items() if name not in stack.values}
    done = subprocess.run(
        ["docker", "compose", "--env-file", str(tmp_path / "none"), "config", "-q"],
        cwd=PROJECT, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "make env" in done.stderr
    made = tmp_path / "made"
    subprocess.run(["deploy/env", str(made)], cwd=PROJECT, capture_output=True, check=True)
    assert made.stat().st_mode & 0o077 == 0
    subprocess.run(
        ["docker", "compose", "--env-file", str(made), "config", "-q"],
        cwd=PROJECT,
        env=clean,
        check=True,
    )
    values = dict(
        line.split("=", 1)
        for line in made.read_text().splitlines()
        if "=" in line and line[0] != "#"
    )
    secret = [
        value
        for name, value in values.items()
        if name.endswith(("KEY", "KEYS", "PASSWORD", "SECRET"))
    ]
    assert len(set(secret)) == len(secret) == 8
    assert all(len(value) >= 40 for value in secret)


def test_the_profiles_that_have_no_image_here_are_at_least_a_valid_file(stack):
    """Mailpit and Grafana are not run by this: their images are not on every machine."""
    found = yaml.safe_load(
        stack.run("--profile", "demo", "--profile", "obs", "--profile", "tools", "config")
    )
    assert {"mail", "prometheus", "grafana", "perigee"} <= found["services"].keys()
    for name, service in found["services"].items():
        if name != "receiver":
            assert "no-new-privileges:true" in service["security_opt"], name
            assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name


def test_prometheus_sees_every_service(stack):
    stack.run("--profile", "obs", "up", "--detach", "prometheus")
    end = time.monotonic() + 60
    asked = f"http://127.0.0.1:{stack.values['PROMETHEUS_PORT']}/api/v1"
    up: set[str] = set()
    while up != {"ingest", "scoring", "orchestrator"}:
        assert time.monotonic() < end, up
        time.sleep(1)
        try:
            targets = httpx2.get(f"{asked}/targets", trust_env=False).json()["data"][
                "activeTargets"
            ]
        except httpx2.HTTPError:
            continue
        up = {t["labels"]["service_name"] for t in targets if t["health"] == "up"}
    groups = httpx2.get(f"{asked}/rules", trust_env=False).json()["data"]["groups"]
    assert sum(len(group["rules"]) for group in groups) >= 7
    assert all(rule["health"] != "err" for group in groups for rule in group["rules"])
