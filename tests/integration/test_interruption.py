"""An interrupted test run leaves no server, service or test process behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.home import PROJECT
from tests.support.server_host import MARK, processes_of_run
from tests.support.shared_servers import end_host, start_host
from tests.support.waiting import block_until


def _heed_interrupt():
    """Undo the ignored SIGINT that a background job of a shell inherits."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def hanging_run(tmp_path):
    """Test run of two processes, Kafka, PostgreSQL and a service."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "tests/support/hanging_run.py"]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, "HANGING_NOTES": str(tmp_path)},
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_heed_interrupt,  # noqa: PLW1509 - no threads run here
        )
    notes = [tmp_path / "1", tmp_path / "2"]

    def started():
        assert process.poll() is None, (tmp_path / "output").read_text()
        return all(note.exists() and note.read_text() for note in notes)

    block_until(started, 150, "the run that is interrupted")
    yield process, notes[0].read_text()
    process.kill()


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_interrupted_run_leaves_no_process(hanging_run, how):
    process, folder = hanging_run
    names = {other.name() for other in processes_of_run(folder)}
    assert {"java", "postgres"} <= names
    assert len(processes_of_run(folder)) >= 5

    if how == "Ctrl-C":  # a terminal sends it to the whole process group
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()

    block_until(lambda: process.poll() is not None, what="the end of pytest")
    block_until(lambda: not processes_of_run(folder), what="the end of the run's processes")
    block_until(lambda: not Path(folder).exists(), what="the removal of its folder")


def test_killed_controller_leaves_no_process(monkeypatch):
    """The host ends the run when its standard input ends."""
    monkeypatch.setenv(MARK, "")
    host = start_host()
    folder = os.environ[MARK]
    left_over = subprocess.Popen(["sleep", "600"], start_new_session=True)
    assert left_over.pid in {process.pid for process in processes_of_run(folder)}

    end_host(host)

    assert left_over.wait(10) == -signal.SIGKILL
    assert not Path(folder).exists()
