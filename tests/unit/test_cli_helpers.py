"""Parts of the command line that need no server: ports, homes, processes, what is missing."""

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
from cli.home import PROJECT, Home, is_port_free
from cli.servers.managed_process import ManagedProcess, StartError
from libs.common.errors import ConfigurationError
from tests.support.waiting import block_until


@pytest.fixture
def home(tmp_path):
    found = Home(tmp_path / "home")
    found.create()
    return found


@pytest.fixture
def taken():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found.getsockname()[1]


def test_a_home_is_its_owners_alone(home):
    assert home.folder.stat().st_mode & 0o777 == 0o700
    home.get_secret("key")
    assert (home.folder / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_secret_is_made_once(home):
    assert home.get_secret("a") == home.get_secret("a") != home.get_secret("b")
    assert len(home.get_secret("a")) >= 32


def test_an_unreadable_file_is_named(home):
    (home.folder / "ports.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"ports\.json is unreadable"):
        home.read("ports")


def test_a_taken_default_port_is_replaced_and_kept(home, taken, monkeypatch):
    monkeypatch.setitem(__import__("cli.home").home.DEFAULT_PORTS, "kafka", taken)
    port = home.allocate_port("kafka", running=False)
    assert port != taken
    assert home.allocate_port("kafka", running=False) == port
    assert home.allocate_port("kafka", running=True) == port


def test_a_taken_port_set_by_hand_is_an_error(home, taken, monkeypatch):
    monkeypatch.setenv("PERIGEE_INGEST_PORT", str(taken))
    with pytest.raises(ConfigurationError, match=f"PERIGEE_INGEST_PORT={taken}"):
        home.allocate_port("ingest", running=False)


@pytest.mark.parametrize("text", ["abc", "0", "70000", "-1"])
def test_what_is_no_port(home, monkeypatch, text):
    monkeypatch.setenv("PERIGEE_INGEST_PORT", text)
    with pytest.raises(ConfigurationError, match="not a port number"):
        home.allocate_port("ingest", running=False)


def test_two_names_never_share_a_port(home, monkeypatch):
    names = [f"scoring-{n}" for n in range(20)]
    assert len({home.allocate_port(name, running=False) for name in names}) == 20


def test_is_free(taken):
    assert not is_port_free(taken)


SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_process_is_recognised_by_pid_and_start(home, tmp_path):
    process = ManagedProcess(home, "sleeper")
    assert process.pid is None
    assert not process.stop()
    pid = process.start(SLEEP, dict(os.environ), tmp_path)
    assert ManagedProcess(home, "sleeper").pid == pid
    assert process.runs_as(SLEEP, dict(os.environ))
    assert not process.runs_as([*SLEEP, "other"], dict(os.environ))
    assert process.stop()
    assert process.pid is None


def test_a_killed_process_is_dead_at_once_and_can_be_started_again(home, tmp_path):
    process = ManagedProcess(home, "sleeper")
    os.kill(process.start(SLEEP, dict(os.environ), tmp_path), signal.SIGKILL)
    block_until(lambda: process.pid is None, 10)
    begun = time.monotonic()
    process.start(SLEEP, dict(os.environ), tmp_path)
    assert time.monotonic() - begun < 3
    process.stop()


def test_a_foreign_process_under_our_pid_is_not_ours(home):
    home.write("run/sleeper", {"pid": os.getpid(), "started": 12.0, "made_of": ""})
    process = ManagedProcess(home, "sleeper")
    assert process.pid is None
    assert not process.stop()


def test_a_process_that_ends_at_once_shows_its_last_words(home, tmp_path):
    process = ManagedProcess(home, "broken")
    process.start(
        [sys.executable, "-c", "raise SystemExit('what is wrong')"], dict(os.environ), tmp_path
    )
    with pytest.raises(StartError, match="(?s)broken ended at once.*what is wrong"):
        process.wait_ready(lambda: False, 5)


def test_a_process_that_never_gets_ready_is_an_error(home, tmp_path):
    process = ManagedProcess(home, "slow")
    process.start(SLEEP, dict(os.environ), tmp_path)
    with pytest.raises(StartError, match="not ready within"):
        process.wait_ready(lambda: False, 0.3)
    process.stop()


def test_without_java_and_maven_one_line_says_how_to_get_them(tmp_path):
    folder = tmp_path / "kafka"
    folder.mkdir()
    for name in ("fetch", "pom.xml"):
        shutil.copy(PROJECT / "deploy" / "kafka" / name, folder)
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("bash", "dirname"):
        (bare / tool).symlink_to(shutil.which(tool))
    outcome = subprocess.run(
        [str(bare / "bash"), str(folder / "fetch")],
        env={"PATH": str(bare)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 1
    (line,) = outcome.stderr.splitlines()
    assert "Java 17+ and Maven" in line
    assert "apt-get install" in line
    assert "brew install" in line


def test_the_replay_report_names_differences():
    equal = {"equal": True, "touchpoints": 1, "contacts": 1, "transitions": 1, "differences": []}
    assert "every byte the same" in format_outcome(equal)
    assert "  x" in format_outcome({**equal, "equal": False, "differences": ["x"]})


def test_the_status_table_shows_what_is_down():
    table = build_status_table([{"name": "kafka", "pid": None, "ready": False, "url": "k"}])
    assert table.row_count == 1


def test_the_lock_names_no_registry():
    for path in (PROJECT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "http" not in "".join(line for line in text.splitlines() if "://" in line)
        assert "--hash=sha256:" in text


def test_given_servers_are_remembered_and_our_own_are_not_taken_for_given(home, monkeypatch):
    from cli.stack import InstanceStack

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


class Dying:
    """A part that looked alive and then is not."""

    name = "kafka"

    def __init__(self, lives):
        self.lives = lives
        self.started = 0
        self.pid = 1
        self.process = self

    def start(self):
        if self.pid is None:
            self.started += 1
            self.pid = 2 if self.started <= self.lives else None

    def wait(self):
        if self.pid == 1:
            self.pid = None
        if self.pid is None:
            raise StartError("kafka ended at once")


def test_a_part_killed_a_moment_before_up_is_started_again():
    from cli.stack import _start

    part = Dying(lives=1)
    _start([part], lambda _: None)
    assert part.started == 1
    with pytest.raises(StartError):
        _start([Dying(lives=0)], lambda _: None)


def test_a_link_says_where_it_was_placed():
    from cli.commands.urls import tag_url
    from libs.common.errors import ConfigurationError

    found = tag_url(
        "https://a.example/x?a=1&utm_source=old#top", source="né ws", medium="email", term=""
    )
    assert found == "https://a.example/x?a=1&utm_source=n%C3%A9+ws&utm_medium=email#top"
    with pytest.raises(ConfigurationError, match="no web address"):
        tag_url("shop.example", source="a", medium="b")
