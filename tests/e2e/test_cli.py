"""The `perigee` command in the embedded mode, for a newcomer and for a script."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx2
import psutil
import pytest

from cli.home import PROJECT
from tests.e2e.perigee_command import (
    PERIGEE,
    clean_environment,
    execute_sql,
    exports,
    perigee,
    services,
)

pytestmark = pytest.mark.timeout(300)
NAMES = ["kafka", "postgres", "mail", "ingest", "scoring", "orchestrator"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    perigee(folder, "up", "--detach")
    yield folder
    perigee(folder, "down")


def test_doctor_finds_no_fault_in_healthy_instance(home):
    findings = json.loads(perigee(home, "doctor", "--json").stdout)

    assert [finding["what"] for finding in findings if finding["fault"]] == []
    assert {
        "PostgreSQL", "PostgreSQL's settings", "schema", "clocks", "Kafka", "topics",
        "mail server", *NAMES[3:],
    } <= {finding["what"] for finding in findings}  # fmt: skip


def test_every_process_is_ready_and_has_pid(home):
    processes = services(home)

    assert list(processes) == NAMES
    assert all(s["ready"] and psutil.pid_exists(s["pid"]) and s["url"] for s in processes.values())
    assert "scoring" in perigee(home, "status").stdout


def test_every_service_serves_health_and_metrics(home):
    processes = services(home)
    for name in ("ingest", "scoring", "orchestrator"):
        url = processes[name]["url"]
        assert httpx2.get(f"{url}/livez").json()["alive"]
        assert httpx2.get(f"{url}/readyz").json()["ready"]
        assert "perigee_" in httpx2.get(f"{url}/metrics").text

    metrics = httpx2.get(f"{processes['scoring']['url']}/metrics").text

    assert "perigee_kafka_consumer_lag{" in metrics
    assert "perigee_frontier_timestamp_seconds" in metrics


def test_env_prints_connection_variables(home):
    variables = exports(home)

    names = {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "INGEST_URL", "WRITE_KEY"}
    assert variables.keys() >= names


def test_second_up_changes_nothing(home):
    before = {name: s["pid"] for name, s in services(home).items()}
    perigee(home, "up", "--detach")

    assert {name: s["pid"] for name, s in services(home).items()} == before


@pytest.mark.parametrize("name", ["ingest", "scoring", "kafka", "postgres"])
def test_up_restarts_killed_process(home, name):
    os.kill(services(home)[name]["pid"], signal.SIGKILL)
    time.sleep(0.5)

    assert services(home)[name]["pid"] is None

    perigee(home, "up", "--detach")
    processes = services(home)

    assert all(s["ready"] for s in processes.values()), processes


@pytest.mark.capability(5)
def test_touchpoint_moves_stage_from_shell(home):
    variables = exports(home)
    call = {"event": "Quote Requested", "userId": "me"}
    response = httpx2.post(
        f"{variables['INGEST_URL']}/v1/track",
        json=call,
        auth=(variables["WRITE_KEY"].strip("'"), ""),
    )
    assert response.json() == {"success": True}
    outcome = json.loads(perigee(home, "replay-check", "--json").stdout)
    counted = {"touchpoints": 1, "contacts": 1, "accounts": 0, "transitions": 1}
    assert outcome == {"equal": True, "differences": [], **counted}
    timeline = perigee(home, "contact", "show", "me").stdout
    assert "Quote Requested" in timeline
    assert "validation" in timeline
    reasons = perigee(home, "contact", "explain", "me").stdout
    assert "quote_requested" in reasons
    explanation = json.loads(perigee(home, "contact", "explain", "me", "--json").stdout)

    assert explanation["cycles"]["engagement"]["axes"]["buying"]["stage"] == "validation"


def test_contacts_are_merged_unmerged_and_corrected_from_shell(home):
    variables = exports(home)
    key = (
        perigee(home, "source", "create", "crm", "--trust", "server")
        .stdout.split("write key: ")[1]
        .split()[0]
    )
    assert "server" in perigee(home, "source", "list").stdout
    for user in ("ann", "bob"):
        url = f"{variables['INGEST_URL']}/v1/track"
        while (
            httpx2.post(
                url, json={"event": "Quote Requested", "userId": user}, auth=(key, "")
            ).status_code
            == 401
        ):
            time.sleep(0.2)
    assert json.loads(perigee(home, "replay-check", "--json").stdout)["equal"]
    merged = json.loads(
        perigee(home, "identity", "merge", "ann", "bob", "--note", "twins", "--json").stdout
    )
    assert len(merged["contacts"]) == 1
    shown = json.loads(perigee(home, "identity", "show", "bob", "--json").stdout)
    assert {"user_id:ann", "user_id:bob"} <= set(shown["identifiers"])
    assert shown["corrections"][0]["note"] == "twins"
    assert "two contacts" in perigee(home, "identity", "unmerge", "ann", "bob").stdout
    assert "bot: 1" in perigee(home, "correct", "bot", "ann").stdout
    assert "recorded" in perigee(home, "correct", "stage", "bob", "--set", "sales=won").stdout
    assert perigee(home, "refold", "status", "--watch", "--json").returncode == 0
    assert json.loads(perigee(home, "replay-check", "--json").stdout)["equal"]
    refused = perigee(home, "correct", "stage", "bob", "--set", "sales=nowhere", check=False)
    assert (refused.returncode, "no stage 'nowhere'" in refused.stderr) == (1, True)
    refused = perigee(home, "identity", "merge", "ann", "nobody", check=False)

    assert (refused.returncode, "no contact has" in refused.stderr) == (1, True)
    assert "refused nothing" in perigee(home, "outbox", "list").stdout


def test_cycle_version_is_published_and_rolled_back(home, tmp_path):
    shipped = (PROJECT / "cycles" / "engagement.yaml").read_text()
    file = tmp_path / "next.yaml"

    file.write_text(
        shipped.replace('version: "1"', 'version: "2"').replace(
            "intent: {half_life: 7d}", "intent: {half_life: 9d}"
        )
    )

    assert "valid" in perigee(home, "cycle", "validate", str(file)).stdout
    assert "scores.intent.half_life: 7d -> 9d" in perigee(home, "cycle", "diff", str(file)).stdout

    backtest = json.loads(perigee(home, "cycle", "backtest", str(file), "--json").stdout)
    assert backtest["people"] >= 3
    assert "engagement@2 is live" in perigee(home, "cycle", "publish", str(file)).stdout
    assert json.loads(perigee(home, "replay-check", "--json").stdout)["equal"]
    assert "engagement@1 is live" in perigee(home, "cycle", "rollback", "engagement").stdout

    rows = json.loads(perigee(home, "cycle", "status", "--json").stdout)
    assert {row["version"]: row["status"] for row in rows} == {"1": "live", "2": "retired"}

    file.write_text(shipped.replace("scores:", "skores:"))
    refused = perigee(home, "cycle", "publish", str(file), check=False)

    assert (refused.returncode, "skores" in refused.stderr) == (1, True)


def test_replay_check_reports_difference_and_timeout(home):
    """Exit code 1 for a difference, 2 when the instance does not become idle."""
    execute_sql(home, "UPDATE scoring.contact_states SET state = state || '\\x00'")
    unequal = perigee(home, "replay-check", check=False)
    assert (unequal.returncode, "NOT EQUAL" in unequal.stdout) == (1, True)
    execute_sql(
        home,
        "UPDATE scoring.contact_states SET state = substring(state FOR length(state) - 1)",
    )
    assert perigee(home, "replay-check").returncode == 0
    os.kill(services(home)["scoring"]["pid"], signal.SIGSTOP)
    execute_sql(home, "INSERT INTO scoring.refolds (contact_id, reason) VALUES ('nobody', 'late')")
    busy = perigee(home, "replay-check", "--timeout", "2", check=False)
    execute_sql(home, "DELETE FROM scoring.refolds WHERE contact_id = 'nobody'")
    os.kill(services(home)["scoring"]["pid"], signal.SIGCONT)

    assert (busy.returncode, "not idle" in busy.stderr) == (2, True)


def test_files_are_imported_and_dead_letters_repaired(home, tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text(
        "userId,event,timestamp\nf1,Visited,2026-05-01\n,Visited,2026-05-01\nf2,Visited,2026-05-01\n"
    )
    outputs = [perigee(home, "import", str(file), "--source", "default").stdout for _ in range(2)]
    assert outputs[0].startswith("imported 2, rejected 1")
    assert outputs[1].startswith("imported before")
    assert json.loads(Path(f"{file}.rejects.ndjson").read_text())["line"] == 3
    variables = exports(home)
    for event in ("repaired", "dropped"):
        call = {"event": event, "timestamp": "2026-05-01T10:00:00Z"}
        httpx2.post(
            f"{variables['INGEST_URL']}/v1/track",
            json=call,
            auth=(variables["WRITE_KEY"].strip("'"), ""),
        )
    dead_letters = json.loads(perigee(home, "dlq", "list", "--reason", "no_ids", "--json").stdout)[
        "letters"
    ]
    (number,) = [
        dead_letter["number"] for dead_letter in dead_letters if "repaired" in dead_letter["value"]
    ]

    assert perigee(home, "dlq", "replay", number, check=False).returncode == 1
    assert "replayed 1" in perigee(home, "dlq", "replay", number, "--set", "userId=f3").stdout
    assert "dropped 1" in perigee(home, "dlq", "drop", "--all", "--reason", "no_ids").stdout
    assert "repaired" in perigee(home, "contact", "show", "f3").stdout


def test_unknown_contact_is_reported_without_traceback(home):
    outcome = perigee(home, "contact", "show", "nobody", check=False)

    assert outcome.returncode == 1
    assert "no contact has" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_topics_and_schema_are_idempotent(home):
    assert "every topic is there" in perigee(home, "topics", "apply").stdout
    assert "up to date" in perigee(home, "db", "migrate").stdout


def test_second_instance_runs_and_ctrl_c_stops_it(home, tmp_path):
    process = subprocess.Popen(
        [PERIGEE, "up"],
        env=clean_environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "Ctrl-C" in line:
            break

    second_processes, first_processes = services(tmp_path), services(home)

    assert all(s["ready"] for s in second_processes.values()), (second_processes, lines)
    assert all(s["ready"] for s in first_processes.values())
    assert {s["url"] for s in second_processes.values()}.isdisjoint(
        s["url"] for s in first_processes.values()
    )

    process.send_signal(signal.SIGINT)
    process.wait(60)

    assert not any(
        psutil.pid_exists(s["pid"]) and psutil.Process(s["pid"]).status() != "zombie"
        for s in second_processes.values()
    )
    assert all(s["pid"] is None for s in services(tmp_path).values())


def test_stale_pid_file_is_ignored(home):
    path = Path(home) / "run" / "mail.json"
    record = json.loads(path.read_text())
    os.kill(record["pid"], signal.SIGKILL)

    path.write_text(json.dumps({**record, "pid": os.getpid()}))

    assert services(home)["mail"]["pid"] is None

    perigee(home, "up", "--detach")

    assert services(home)["mail"]["ready"]


@pytest.mark.parametrize(
    ("variable", "text", "field"),
    [("PERIGEE_CYCLES", "cycle: bad", "scores"), ("PERIGEE_PLAYS", "play: bad", "trigger")],
)
def test_invalid_file_stops_its_service_with_location(home, tmp_path, variable, text, field):
    (tmp_path / "bad.yaml").write_text(text)
    outcome = perigee(home, "up", "--detach", check=False, **{variable: str(tmp_path)})

    assert outcome.returncode == 1
    assert "bad.yaml" in outcome.stderr
    assert field in outcome.stderr

    perigee(home, "up", "--detach")

    assert all(s["ready"] for s in services(home).values())
