"""A process that outlives the command that started it.

Later commands recognise it by pid and start time.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import psutil

from cli.home import Home
from libs.common.errors import PerigeeError


class StartError(PerigeeError):
    """A process ended, or was not ready in time; the message ends with its last log lines."""


class ManagedProcess:
    """A named process of a home.

    The pid of its file is trusted only with the start time of the file.
    """

    def __init__(self, home: Home, name: str) -> None:
        self.home = home
        self.name = name

    @property
    def log_path(self) -> Path:
        """Return the path of the process's log."""
        return self.home.folder / "logs" / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Return the pid of the running process, or None."""
        process = self._process()
        return process.pid if process else None

    def _process(self) -> psutil.Process | None:
        record = self.home.read(f"run/{self.name}")
        if not record:
            return None
        try:
            process = psutil.Process(record["pid"])
            # A killed process stays visible until its parent reaps it: a zombie is dead.
            is_same = (
                abs(process.create_time() - record["started"]) < 1
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return None
        return process if is_same else None

    def runs_as(self, command: Sequence[str], environment: dict[str, str]) -> bool:
        """Return whether the process runs with exactly this command and environment."""
        return self.pid is not None and self.home.read(f"run/{self.name}").get(
            "made_of"
        ) == _fingerprint(command, environment)

    def start(self, command: Sequence[str], environment: dict[str, str], cwd: Path) -> int:
        """Start the process in a new session and record it; return its pid."""
        self._wait_until_reaped()
        with self.log_path.open("ab") as log:
            child = subprocess.Popen(
                list(command),
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _children[child.pid] = child
        started = psutil.Process(child.pid).create_time()
        record = {
            "pid": child.pid,
            "started": started,
            "made_of": _fingerprint(command, environment),
        }
        self.home.write(f"run/{self.name}", record)
        return child.pid

    def _wait_until_reaped(self) -> None:
        """Wait until a killed predecessor is reaped: its pid looks alive to lock files before."""
        record = self.home.read(f"run/{self.name}")
        deadline = time.monotonic() + 5
        while record and psutil.pid_exists(record["pid"]) and time.monotonic() < deadline:
            if record["pid"] in _children:
                _children[record["pid"]].poll()  # only the parent can reap a child
            try:
                if abs(psutil.Process(record["pid"]).create_time() - record["started"]) >= 1:
                    return
            except psutil.NoSuchProcess:
                return
            time.sleep(0.1)

    def wait_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until the process lives and `ready()` is true.

        Raises StartError with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.pid is None:
                raise StartError(f"{self.name} ended at once. {self._log_tail()}")
            if ready():
                return
            time.sleep(0.1)
        raise StartError(f"{self.name} was not ready within {seconds:.0f} s. {self._log_tail()}")

    def stop(self, sign: signal.Signals = signal.SIGTERM, seconds: float = 15) -> bool:
        """Signal the process, kill it after `seconds`; return whether it ran."""
        process = self._process()
        if process is not None:
            process.send_signal(sign)
            if not self._wait_for_exit(seconds):
                process.kill()
                self._wait_for_exit(10)
        (self.home.folder / "run" / f"{self.name}.json").unlink(missing_ok=True)
        return process is not None

    def _wait_for_exit(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            child = _children.get(self.pid)
            if child is not None:
                child.poll()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _log_tail(self) -> str:
        lines = (
            self.log_path.read_text(errors="replace").splitlines()[-8:]
            if self.log_path.exists()
            else []
        )
        return "\n  ".join([f"Its log is {self.log_path} and ends:", *lines])


_children: dict[int, "subprocess.Popen[bytes]"] = {}


def _fingerprint(command: Sequence[str], environment: dict[str, str]) -> str:
    relevant = sorted(
        (k, v) for k, v in environment.items() if k.startswith(("PERIGEE_", "KAFKA_", "DATABASE_"))
    )
    return sha256(repr((list(command), relevant)).encode()).hexdigest()
