"""The `perigee` command where no instance runs."""

import json
import socket
from pathlib import Path

import pytest

from tests.e2e.perigee_command import perigee

pytestmark = pytest.mark.timeout(300)


def test_doctor_names_each_fault_with_its_cure():
    unreachable = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "DATABASE_URL": "postgresql://x@127.0.0.1:1/x",
    }
    outcome = perigee(Path("/nonexistent"), "doctor", "--json", check=False, **unreachable)

    assert outcome.returncode == 1

    findings = {finding["what"]: finding for finding in json.loads(outcome.stdout)}

    for subject, cure in (
        ("PostgreSQL", "DATABASE_URL"),
        ("Kafka", "KAFKA_BOOTSTRAP_SERVERS"),
        ("ingest", "perigee env"),
    ):
        assert findings[subject]["fault"]
        assert cure in findings[subject]["cure"]


def test_configured_port_in_use_is_named(tmp_path):
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        port = occupied.getsockname()[1]
        outcome = perigee(tmp_path, "up", "--detach", check=False, PERIGEE_KAFKA_PORT=str(port))

    assert outcome.returncode == 1
    assert f"PERIGEE_KAFKA_PORT={port}" in outcome.stderr

    perigee(tmp_path, "down")


def test_commands_before_first_start_suggest_up(tmp_path):
    for arguments in (["env"], ["contact", "show", "x"], ["db", "migrate"]):
        outcome = perigee(tmp_path / "empty", *arguments, check=False)
        assert outcome.returncode == 1
        assert "perigee up" in outcome.stderr

    assert json.loads(perigee(tmp_path / "empty", "status", "--json").stdout) == {"services": []}

    perigee(tmp_path / "empty", "down")
