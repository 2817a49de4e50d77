"""Parts of the command line that need no server: ports, home folder, processes, reports."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from cli.commands.instance import build_status_table
from cli.commands.replay import format_outcome
from cli.commands.utm_links import tag_url
from cli.home import PROJECT, Home, is_port_free
from cli.servers.managed_process import ManagedProcess, StartError
from cli.stack import InstanceStack, _start
from libs.common.errors import ConfigurationError
from tests.support.waiting import block_until


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def occupied_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_home_is_readable_by_owner_only(home):
    assert home.folder.stat().st_mode & 0o777 == 0o700

    home.get_secret("key")

    assert (home.folder / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_secret_is_generated_once(home):
    assert home.get_secret("a") == home.get_secret("a") != home.get_secret("b")
    assert len(home.get_secret("a")) >= 32


def test_unreadable_file_error_names_file(home):
    (home.folder / "ports.json").write_text("{")

    with pytest.raises(ConfigurationError, match=r"ports\.json is unreadable"):
        home.read("ports")


def test_occupied_default_port_is_replaced_permanently(home, occupied_port, monkeypatch):
    monkeypatch.setitem(__import__("cli.home").home.DEFAULT_PORTS, "kafka", occupied_port)

    port = home.allocate_port("kafka", running=False)

    assert port != occupied_port
    assert home.allocate_port("kafka", running=False) == port
    assert home.allocate_port("kafka", running=True) == port


def test_occupied_configured_port_is_an_error(home, occupied_port, monkeypatch):
    monkeypatch.setenv("PERIGEE_INGEST_PORT", str(occupied_port))

    with pytest.raises(ConfigurationError, match=f"PERIGEE_INGEST_PORT={occupied_port}"):
        home.allocate_port("ingest", running=False)


@pytest.mark.parametrize("text", ["abc", "0", "70000", "-1"])
def test_invalid_port_is_refused(home, monkeypatch, text):
    monkeypatch.setenv("PERIGEE_INGEST_PORT", text)

    with pytest.raises(ConfigurationError, match="not a port number"):
        home.allocate_port("ingest", running=False)


def test_each_name_has_a_distinct_port(home, monkeypatch):
    names = [f"scoring-{n}" for n in range(20)]

    assert len({home.allocate_port(name, running=False) for name in names}) == 20


def test_occupied_port_is_not_free(occupied_port):
    assert not is_port_free(occupied_port)


SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_process_is_identified_by_pid_and_start(home, tmp_path):
    process = ManagedProcess(home, "sleeper")

    assert process.pid is None
    assert not process.stop()

    pid = process.start(SLEEP, dict(os.environ), tmp_path)

    assert ManagedProcess(home, "sleeper").pid == pid
    assert process.runs_as(SLEEP, dict(os.environ))
    assert not process.runs_as([*SLEEP, "other"], dict(os.environ))
    assert process.stop()
    assert process.pid is None


def test_killed_process_can_be_started_again(home, tmp_path):
    process = ManagedProcess(home, "sleeper")
    os.kill(process.start(SLEEP, dict(os.environ), tmp_path), signal.SIGKILL)

    block_until(lambda: process.pid is None, 10)
    started = time.monotonic()
    process.start(SLEEP, dict(os.environ), tmp_path)

    assert time.monotonic() - started < 3

    process.stop()


def test_reused_pid_is_not_the_managed_process(home):
    home.write("run/sleeper", {"pid": os.getpid(), "started": 12.0, "made_of": ""})

    process = ManagedProcess(home, "sleeper")

    assert process.pid is None
    assert not process.stop()


def test_early_exit_error_has_process_output(home, tmp_path):
    process = ManagedProcess(home, "broken")
    process.start(
        [sys.executable, "-c", "raise SystemExit('what is wrong')"], dict(os.environ), tmp_path
    )

    with pytest.raises(StartError, match="(?s)broken ended at once.*what is wrong"):
        process.wait_ready(lambda: False, 5)


def test_process_not_ready_in_time_is_an_error(home, tmp_path):
    process = ManagedProcess(home, "slow")
    process.start(SLEEP, dict(os.environ), tmp_path)

    with pytest.raises(StartError, match="not ready within"):
        process.wait_ready(lambda: False, 0.3)

    process.stop()


def test_kafka_fetch_names_missing_java_and_maven(tmp_path):
    folder = tmp_path / "kafka"
    folder.mkdir()
    for name in ("fetch", "pom.xml"):
        shutil.copy(PROJECT / "deploy" / "kafka" / name, folder)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for tool in ("bash", "dirname"):
        (bin_folder / tool).symlink_to(shutil.which(tool))

    outcome = subprocess.run(
        [str(bin_folder / "bash"), str(folder / "fetch")],
        env={"PATH": str(bin_folder)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert outcome.returncode == 1

    (line,) = outcome.stderr.splitlines()

    assert "Java 17+ and Maven" in line
    assert "apt-get install" in line
    assert "brew install" in line


def test_replay_report_names_differences():
    equal = {"equal": True, "touchpoints": 1, "contacts": 1, "transitions": 1, "differences": []}

    assert "every byte the same" in format_outcome(equal)
    assert "  x" in format_outcome({**equal, "equal": False, "differences": ["x"]})


def test_status_table_lists_stopped_parts():
    table = build_status_table([{"name": "kafka", "pid": None, "ready": False, "url": "k"}])

    assert table.row_count == 1


def test_locked_requirements_have_hashes_and_no_urls():
    for path in (PROJECT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "http" not in "".join(line for line in text.splitlines() if "://" in line)
        assert "--hash=sha256:" in text


def test_external_servers_are_remembered_and_not_started(home, monkeypatch):
    stack = InstanceStack(home)
    home.write("ports", {"kafka": 4711, "postgres": 4712})
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:4711")

    monkeypatch.setenv("DATABASE_URL", stack.postgres.url())

    assert [part.name for part in stack.servers()] == ["kafka", "postgres", "mail"]

    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker:9092")

    assert [part.name for part in stack.servers()] == ["postgres", "mail"]
    assert stack.environment()["KAFKA_BOOTSTRAP_SERVERS"] == "broker:9092"

    home.store_environment(KAFKA_BOOTSTRAP_SERVERS="broker:9092")
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS")

    assert stack.environment()["KAFKA_BOOTSTRAP_SERVERS"] == "broker:9092"


class CrashingPart:
    """Part of the stack that ends before it is ready; the first `restarts` restarts succeed."""

    name = "kafka"

    def __init__(self, restarts):
        self.restarts = restarts
        self.started = 0
        self.pid = 1
        self.process = self

    def start(self):
        if self.pid is None:
            self.started += 1
            self.pid = 2 if self.started <= self.restarts else None

    def wait(self):
        if self.pid == 1:
            self.pid = None
        if self.pid is None:
            raise StartError("kafka ended at once")


def test_crashed_part_is_started_again():
    part = CrashingPart(restarts=1)

    _start([part], lambda _: None)

    assert part.started == 1

    with pytest.raises(StartError):
        _start([CrashingPart(restarts=0)], lambda _: None)


def test_tagged_url_has_utm_parameters():
    url = tag_url(
        "https://a.example/x?a=1&utm_source=old#top", source="né ws", medium="email", term=""
    )

    assert url == "https://a.example/x?a=1&utm_source=n%C3%A9+ws&utm_medium=email#top"

    with pytest.raises(ConfigurationError, match="no web address"):
        tag_url("shop.example", source="a", medium="b")
