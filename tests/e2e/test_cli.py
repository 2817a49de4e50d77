"""The `perigee` command in the embedded mode, as a newcomer and as a script would use it."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from cli.home import PROJECT

pytestmark = pytest.mark.timeout(300)
PERIGEE = str(PROJECT / ".venv" / "bin" / "perigee")
NAMES = ["kafka", "postgres", "mail", "ingest", "scoring", "orchestrator"]


def clean_environment(home, **more):
    dropped = ("PERIGEE_", "KAFKA_", "DATABASE_", "INGEST_", "WRITE_KEY")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return {**kept, "PERIGEE_HOME": str(home), **more}


def perigee(home, *arguments, check=True, **more):
    outcome = subprocess.run(
        [PERIGEE, *arguments],
        env=clean_environment(home, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert not check or outcome.returncode == 0, outcome.stderr
    return outcome


def services(home):
    return {s["name"]: s for s in json.loads(perigee(home, "status", "--json").stdout)["services"]}


def exports(home):
    lines = perigee(home, "env").stdout.splitlines()
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    perigee(folder, "up", "--detach")
    yield folder
    perigee(folder, "down")


def test_every_process_is_ready_and_has_a_pid(home):
    found = services(home)
    assert list(found) == NAMES
    assert all(s["ready"] and psutil.pid_exists(s["pid"]) and s["url"] for s in found.values())
    assert "scoring" in perigee(home, "status").stdout


def test_every_service_shows_its_health_and_metrics(home):
    import httpx2

    found = services(home)
    for name in ("ingest", "scoring", "orchestrator"):
        url = found[name]["url"]
        assert httpx2.get(f"{url}/livez").json()["alive"]
        assert httpx2.get(f"{url}/readyz").json()["ready"]
        assert "perigee_" in httpx2.get(f"{url}/metrics").text
    metrics = httpx2.get(f"{found['scoring']['url']}/metrics").text
    assert "perigee_kafka_consumer_lag{" in metrics
    assert "perigee_frontier_seconds" in metrics


def test_env_prints_what_a_script_needs(home):
    found = exports(home)
    assert found.keys() >= {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "INGEST_URL", "WRITE_KEY"}


def test_up_again_changes_nothing(home):
    before = {name: s["pid"] for name, s in services(home).items()}
    perigee(home, "up", "--detach")
    assert {name: s["pid"] for name, s in services(home).items()} == before


@pytest.mark.parametrize("name", ["ingest", "scoring", "kafka", "postgres"])
def test_up_heals_a_killed_process(home, name):
    os.kill(services(home)[name]["pid"], signal.SIGKILL)
    time.sleep(0.5)
    assert services(home)[name]["pid"] is None
    perigee(home, "up", "--detach")
    found = services(home)
    assert all(s["ready"] for s in found.values()), found


def test_a_touchpoint_moves_a_stage_from_the_shell(home):
    import httpx2

    found = exports(home)
    call = {"event": "Quote Requested", "userId": "me"}
    answer = httpx2.post(f"{found['INGEST_URL']}/v1/track", json=call, auth=(found["WRITE_KEY"].strip("'"), ""))
    assert answer.json() == {"success": True}
    outcome = json.loads(perigee(home, "replay-check", "--json").stdout)
    assert outcome == {"equal": True, "touchpoints": 1, "contacts": 1, "transitions": 1, "differences": []}
    story = perigee(home, "contact", "show", "me").stdout
    assert "Quote Requested" in story
    assert "validation" in story


def test_nobody_is_one_line(home):
    outcome = perigee(home, "contact", "show", "nobody", check=False)
    assert outcome.returncode == 1
    assert "no contact has" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_topics_and_schema_are_idempotent(home):
    assert "every topic is there" in perigee(home, "topics", "apply").stdout
    assert "up to date" in perigee(home, "db", "migrate").stdout


def test_a_second_home_runs_beside_the_first_and_ctrl_c_ends_all_of_it(home, tmp_path):
    process = subprocess.Popen(
        [PERIGEE, "up"], env=clean_environment(tmp_path), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    second, first = services(tmp_path), services(home)
    assert all(s["ready"] for s in second.values()), (second, lines)
    assert all(s["ready"] for s in first.values())
    assert {s["url"] for s in second.values()}.isdisjoint(s["url"] for s in first.values())
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert not any(
        psutil.pid_exists(s["pid"]) and psutil.Process(s["pid"]).status() != "zombie" for s in second.values()
    )
    assert all(s["pid"] is None for s in services(tmp_path).values())


def test_a_port_set_by_hand_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = perigee(tmp_path, "up", "--detach", check=False, PERIGEE_KAFKA_PORT=str(port))
    assert outcome.returncode == 1
    assert f"PERIGEE_KAFKA_PORT={port}" in outcome.stderr
    perigee(tmp_path, "down")


def test_before_anything_was_started(tmp_path):
    for arguments in (["env"], ["contact", "show", "x"], ["db", "migrate"]):
        outcome = perigee(tmp_path / "empty", *arguments, check=False)
        assert outcome.returncode == 1
        assert "perigee up" in outcome.stderr
    assert json.loads(perigee(tmp_path / "empty", "status", "--json").stdout) == {"services": []}
    perigee(tmp_path / "empty", "down")


def test_a_stale_pid_file_is_not_believed(home):
    path = Path(home) / "run" / "mail.json"
    record = json.loads(path.read_text())
    os.kill(record["pid"], signal.SIGKILL)
    path.write_text(json.dumps({**record, "pid": os.getpid()}))
    assert services(home)["mail"]["pid"] is None
    perigee(home, "up", "--detach")
    assert services(home)["mail"]["ready"]


@pytest.mark.parametrize(
    ("variable", "text", "named"),
    [("PERIGEE_CYCLES", "cycle: bad", "scores"), ("PERIGEE_PLAYS", "play: bad", "trigger")],
)
def test_a_broken_file_stops_its_service_with_the_place(home, tmp_path, variable, text, named):
    (tmp_path / "bad.yaml").write_text(text)
    outcome = perigee(home, "up", "--detach", check=False, **{variable: str(tmp_path)})
    assert outcome.returncode == 1
    assert "bad.yaml" in outcome.stderr
    assert named in outcome.stderr
    perigee(home, "up", "--detach")
    assert all(s["ready"] for s in services(home).values())
