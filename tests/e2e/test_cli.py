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


def test_the_doctor_is_content_with_a_healthy_instance(home):
    found = json.loads(perigee(home, "doctor", "--json").stdout)
    assert [one["what"] for one in found if one["fault"]] == []
    assert {
        "PostgreSQL",
        "schema",
        "clocks",
        "Kafka",
        "topics",
        "mail server",
        "ingest",
        "scoring",
        "orchestrator",
    } <= {one["what"] for one in found}


def test_the_doctor_names_what_is_wrong_and_its_cure(home):
    nowhere = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "DATABASE_URL": "postgresql://x@127.0.0.1:1/x",
    }
    outcome = perigee(Path("/nonexistent"), "doctor", "--json", check=False, **nowhere)
    assert outcome.returncode == 1
    found = {one["what"]: one for one in json.loads(outcome.stdout)}
    for what, cure in (
        ("PostgreSQL", "DATABASE_URL"),
        ("Kafka", "KAFKA_BOOTSTRAP_SERVERS"),
        ("ingest", "perigee env"),
    ):
        assert found[what]["fault"]
        assert cure in found[what]["cure"]


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
    assert "perigee_frontier_timestamp_seconds" in metrics


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


@pytest.mark.capability(5)
def test_a_touchpoint_moves_a_stage_from_the_shell(home):
    import httpx2

    found = exports(home)
    call = {"event": "Quote Requested", "userId": "me"}
    answer = httpx2.post(
        f"{found['INGEST_URL']}/v1/track", json=call, auth=(found["WRITE_KEY"].strip("'"), "")
    )
    assert answer.json() == {"success": True}
    outcome = json.loads(perigee(home, "replay-check", "--json").stdout)
    counted = {"touchpoints": 1, "contacts": 1, "accounts": 0, "transitions": 1}
    assert outcome == {"equal": True, "differences": [], **counted}
    story = perigee(home, "contact", "show", "me").stdout
    assert "Quote Requested" in story
    assert "validation" in story
    why = perigee(home, "contact", "explain", "me").stdout
    assert "quote_requested" in why
    told = json.loads(perigee(home, "contact", "explain", "me", "--json").stdout)
    assert told["cycles"]["engagement"]["axes"]["buying"]["stage"] == "validation"


def test_people_are_merged_parted_and_corrected_from_the_shell(home):
    import httpx2

    found = exports(home)
    key = (
        perigee(home, "source", "create", "crm", "--trust", "server")
        .stdout.split("write key: ")[1]
        .split()[0]
    )
    assert "server" in perigee(home, "source", "list").stdout
    for user in ("ann", "bob"):
        url = f"{found['INGEST_URL']}/v1/track"
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
    wrong = perigee(home, "correct", "stage", "bob", "--set", "sales=nowhere", check=False)
    assert (wrong.returncode, "no stage 'nowhere'" in wrong.stderr) == (1, True)
    wrong = perigee(home, "identity", "merge", "ann", "nobody", check=False)
    assert (wrong.returncode, "no contact has" in wrong.stderr) == (1, True)
    assert "refused nothing" in perigee(home, "outbox", "list").stdout


def test_a_cycle_goes_from_a_file_to_live_and_back(home, tmp_path):
    shipped = (PROJECT / "cycles" / "engagement.yaml").read_text()
    file = tmp_path / "next.yaml"
    file.write_text(
        shipped.replace('version: "1"', 'version: "2"').replace(
            "intent: {half_life: 7d}", "intent: {half_life: 9d}"
        )
    )
    assert "valid" in perigee(home, "cycle", "validate", str(file)).stdout
    assert "scores.intent.half_life: 7d -> 9d" in perigee(home, "cycle", "diff", str(file)).stdout
    tested = json.loads(perigee(home, "cycle", "backtest", str(file), "--json").stdout)
    assert tested["people"] >= 3
    assert "engagement@2 is live" in perigee(home, "cycle", "publish", str(file)).stdout
    assert json.loads(perigee(home, "replay-check", "--json").stdout)["equal"]
    assert "engagement@1 is live" in perigee(home, "cycle", "rollback", "engagement").stdout
    rows = json.loads(perigee(home, "cycle", "status", "--json").stdout)
    assert {row["version"]: row["status"] for row in rows} == {"1": "live", "2": "retired"}
    file.write_text(shipped.replace("scores:", "skores:"))
    wrong = perigee(home, "cycle", "publish", str(file), check=False)
    assert (wrong.returncode, "skores" in wrong.stderr) == (1, True)


def test_a_replay_check_says_what_differs_and_gives_up_in_time(home):
    """Exit code 1 for a difference, 2 when it does not get quiet."""
    import asyncio

    import asyncpg

    async def tamper(statement):
        connection = await asyncpg.connect(exports(home)["DATABASE_URL"].strip("'"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(tamper("UPDATE scoring.contact_states SET state = state || '\\x00'"))
    wrong = perigee(home, "replay-check", check=False)
    assert (wrong.returncode, "NOT EQUAL" in wrong.stdout) == (1, True)
    asyncio.run(
        tamper("UPDATE scoring.contact_states SET state = substring(state FOR length(state) - 1)")
    )
    assert perigee(home, "replay-check").returncode == 0
    os.kill(services(home)["scoring"]["pid"], signal.SIGSTOP)
    asyncio.run(
        tamper("INSERT INTO scoring.refolds (contact_id, reason) VALUES ('nobody', 'late')")
    )
    busy = perigee(home, "replay-check", "--timeout", "2", check=False)
    asyncio.run(tamper("DELETE FROM scoring.refolds WHERE contact_id = 'nobody'"))
    os.kill(services(home)["scoring"]["pid"], signal.SIGCONT)
    assert (busy.returncode, "not quiet" in busy.stderr) == (2, True)


def test_files_are_imported_and_dead_letters_mended_from_the_shell(home, tmp_path):
    import httpx2

    file = tmp_path / "orders.csv"
    file.write_text(
        "userId,event,timestamp\nf1,Visited,2026-05-01\n,Visited,2026-05-01\nf2,Visited,2026-05-01\n"
    )
    told = [perigee(home, "import", str(file), "--source", "default").stdout for _ in range(2)]
    assert told[0].startswith("imported 2, rejected 1")
    assert told[1].startswith("imported before")
    assert json.loads(Path(f"{file}.rejects.ndjson").read_text())["line"] == 3
    found = exports(home)
    for event in ("mended", "left"):
        call = {"event": event, "timestamp": "2026-05-01T10:00:00Z"}
        httpx2.post(
            f"{found['INGEST_URL']}/v1/track", json=call, auth=(found["WRITE_KEY"].strip("'"), "")
        )
    letters = json.loads(perigee(home, "dlq", "list", "--reason", "no_ids", "--json").stdout)[
        "letters"
    ]
    (number,) = [one["number"] for one in letters if "mended" in one["value"]]
    assert perigee(home, "dlq", "replay", number, check=False).returncode == 1
    assert "replayed 1" in perigee(home, "dlq", "replay", number, "--set", "userId=f3").stdout
    assert "dropped 1" in perigee(home, "dlq", "drop", "--all", "--reason", "no_ids").stdout
    assert "mended" in perigee(home, "contact", "show", "f3").stdout


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
    second, first = services(tmp_path), services(home)
    assert all(s["ready"] for s in second.values()), (second, lines)
    assert all(s["ready"] for s in first.values())
    assert {s["url"] for s in second.values()}.isdisjoint(s["url"] for s in first.values())
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert not any(
        psutil.pid_exists(s["pid"]) and psutil.Process(s["pid"]).status() != "zombie"
        for s in second.values()
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
