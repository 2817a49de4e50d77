"""The compose stack on a Docker engine that has the images: `make test-compose`.

A touchpoint at the proxy becomes a signed webhook; each container is killed under load; the stack
restarts on old data; scoring scales; containers are restricted.
"""

import json
import os
import subprocess
import time

import httpx2
import pytest
import yaml
from standardwebhooks.webhooks import Webhook

from cli.home import PROJECT
from tests.compose.compose_stack import (
    SERVERS,
    SERVICES,
    Compose,
    Sender,
    wait_until_delivered,
    wait_until_stored,
)

pytestmark = pytest.mark.timeout(1_500)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    compose = Compose(tmp_path_factory.mktemp("compose"))
    started = time.monotonic()
    compose.run("build", "--quiet", timeout=1_200)
    compose.durations["build"] = time.monotonic() - started
    compose.run("down", "--volumes", "--remove-orphans")
    try:
        compose.up("first start")
        yield compose
    except BaseException:
        print(compose.run("logs", "--tail", "40", check=False)[-12_000:])
        raise
    finally:
        print({label: f"{seconds:.1f} s" for label, seconds in compose.durations.items()})
        compose.run(
            "--profile", "tools", "--profile", "obs", "down", "--volumes", "--remove-orphans"
        )


@pytest.fixture(scope="module")
def sender(stack):
    return Sender(stack)


def test_shipped_plays_are_live_behind_proxy(stack):
    status_of_play = {play["play"]: play["status"] for play in stack.call("GET", "/admin/v1/plays")}

    assert len(status_of_play) >= 10
    assert set(status_of_play.values()) == {"live"}
    assert stack.call("GET", "/v1/compelling-events") == []


def test_touchpoint_at_proxy_becomes_signed_webhook(stack, sender):
    subscription = stack.call(
        "POST", "/admin/v1/subscriptions", json={"name": "crm", "url": "http://receiver:8000/hook"}
    )
    started = time.monotonic()
    sender.send(1)
    (delivery,) = wait_until_delivered(stack, sender)
    stack.durations["touchpoint to webhook, with a look every second"] = time.monotonic() - started

    payload = Webhook(subscription["secret"]).verify(delivery["body"], delivery["headers"])

    assert (payload["type"], payload["data"]["stage"]) == (
        "perigee.stage_change.v1",
        {"from": None, "to": "customer"},
    )

    wait_until_stored(stack, sender)
    shown = json.loads(stack.run("run", "--rm", "perigee", "subscription", "show", "crm", "--json"))

    assert [attempt["status"] for attempt in shown["attempts"]] == [200]


@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/livez", "/%6detrics", "//metrics", "/METRICS", "/metrics/"]
)
def test_proxy_hides_health_and_metrics(stack, path):
    response = httpx2.get(stack.url + path, trust_env=False, follow_redirects=True)

    assert (response.status_code, "perigee_" in response.text) == (404, False)


def test_killed_containers_lose_no_touchpoint(stack, sender):
    for service in (*SERVICES, *SERVERS, "receiver"):
        started = time.monotonic()
        sender.send(50)
        stack.kill(service)
        for _ in range(10):
            sender.send(20)
        if service != "receiver":
            stack.wait_until_healthy(service)
        stack.durations[f"{service} killed and healthy again, 250 sent meanwhile"] = (
            time.monotonic() - started
        )
    stack.wait_until_healthy(*SERVICES, *SERVERS)
    wait_until_stored(stack, sender)
    wait_until_delivered(stack, sender)
    print(f"{len(sender.accepted)} accepted, {sender.refusals} retries")


def test_scoring_scales_to_three_containers(stack, sender):
    stack.up("scoring scaled to 3", "--scale", "scoring=3", "--no-recreate")

    assert len(stack.inspect("scoring")) == 3

    for _ in range(10):
        sender.send(50)
    wait_until_stored(stack, sender)


def test_stack_restarts_on_old_data(stack, sender):
    stack.run("down")
    stack.up("start on old data")
    sender.send(10)
    wait_until_stored(stack, sender)

    wait_until_delivered(stack, sender)

    assert stack.call("GET", "/v1/contacts/u-m0")["cycles"]["engagement"]["stage"] == "customer"
    assert "none, all were there" in stack.run("logs", "migrate")


@pytest.mark.parametrize("service", SERVICES)
def test_container_is_restricted(stack, service):
    for container in stack.inspect(service):
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert container["Config"]["User"] not in ("", "root", "0")
        assert any(container["NetworkSettings"]["Ports"].values()) == (service == "proxy")

    assert "0" not in stack.run("exec", "-T", service, "id", "-u").split()
    assert (
        stack.run("exec", "-T", service, "sh", "-c", "touch /x 2>/dev/null || echo refused").strip()
        == "refused"
    )


@pytest.mark.parametrize("service", ["ingest", "scoring", "orchestrator"])
def test_image_contains_its_service_alone(stack, service):
    assert stack.run("exec", "-T", service, "ls", "/app/services").split() == [service]

    packages = stack.run("exec", "-T", service, "ls", "/opt/perigee/lib/python3.12/site-packages")

    assert ("aiosmtplib" in packages) == (service == "orchestrator")
    assert ("cryptography" in packages) == (service == "ingest")
    assert "hypothesis" not in packages

    parts = {"scoring": "services.scoring.compilation.FOLD_MODULES"}
    for part in ("libs.common.compilation.PUBLISHER_MODULES", *filter(None, [parts.get(service)])):
        module, _, name = part.rpartition(".")
        statement = f"from {module} import {name}; print({name}.mode())"
        assert stack.run("exec", "-T", service, "python", "-c", statement).strip() == "compiled"


def test_secrets_have_no_defaults(stack, tmp_path):
    """The compose file is refused without secrets; `deploy/env` generates new ones."""
    (tmp_path / "none").write_text("")
    clean = {name: value for name, value in os.environ.items() if name not in stack.values}

    refused = subprocess.run(
        ["docker", "compose", "--env-file", str(tmp_path / "none"), "config", "-q"],
        cwd=PROJECT, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert refused.returncode != 0
    assert "make env" in refused.stderr

    generated = tmp_path / "made"
    subprocess.run(["deploy/env", str(generated)], cwd=PROJECT, capture_output=True, check=True)
    assert generated.stat().st_mode & 0o077 == 0

    subprocess.run(
        ["docker", "compose", "--env-file", str(generated), "config", "-q"],
        cwd=PROJECT,
        env=clean,
        check=True,
    )
    values = dict(
        line.split("=", 1)
        for line in generated.read_text().splitlines()
        if "=" in line and line[0] != "#"
    )
    secret = [
        value
        for name, value in values.items()
        if name.endswith(("KEY", "KEYS", "PASSWORD", "SECRET"))
    ]

    assert len(set(secret)) == len(secret) == 8
    assert all(len(value) >= 40 for value in secret)


def test_profiles_form_a_valid_compose_file(stack):
    """Mailpit and Grafana are not started: their images are not on every machine."""
    config = yaml.safe_load(
        stack.run("--profile", "demo", "--profile", "obs", "--profile", "tools", "config")
    )

    assert {"mail", "prometheus", "grafana", "perigee"} <= config["services"].keys()

    for name, service in config["services"].items():
        if name != "receiver":
            assert "no-new-privileges:true" in service["security_opt"], name
            assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name


def test_prometheus_scrapes_every_service(stack):
    stack.run("--profile", "obs", "up", "--detach", "prometheus")
    end = time.monotonic() + 60
    prometheus_url = f"http://127.0.0.1:{stack.values['PROMETHEUS_PORT']}/api/v1"
    up: set[str] = set()
    while up != {"ingest", "scoring", "orchestrator"}:
        assert time.monotonic() < end, up
        time.sleep(1)
        try:
            targets = httpx2.get(f"{prometheus_url}/targets", trust_env=False).json()["data"][
                "activeTargets"
            ]
        except httpx2.HTTPError:
            continue
        up = {t["labels"]["service_name"] for t in targets if t["health"] == "up"}

    groups = httpx2.get(f"{prometheus_url}/rules", trust_env=False).json()["data"]["groups"]

    assert sum(len(group["rules"]) for group in groups) >= 7
    assert all(rule["health"] != "err" for group in groups for rule in group["rules"])
