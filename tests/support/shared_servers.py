"""The servers that all processes of one test run share, by way of `tests.support.server_host`."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cli.home import PROJECT
from tests.support.server_host import MARK, SOCKET
from tests.support.servers import Servers
from tests.support.waiting import block_until


class HostedServers(msgspec.Struct):
    """An answer of the host."""

    kafka: str
    database: str
    template: str
    """Name of a migrated database that others are cloned from."""
    why: str
    session_timeout_ms: int

    def as_servers(self) -> Servers:
        """Return the addresses in the shape that tests take; stopping is the host's part."""
        return Servers(self.kafka, self.database, self.why, lambda: None, self.session_timeout_ms)


def start_host() -> "subprocess.Popen[bytes]":
    """Start the host of a new run and put the run's mark into this process's environment."""
    folder = Path(tempfile.gettempdir()) / f"perigee-run-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    os.environ[MARK] = str(folder)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.server_host", str(folder)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal ends pytest first
    )


def end_host(host: "subprocess.Popen[bytes]") -> None:
    """End the run: the host kills all its processes, then ends."""
    assert host.stdin is not None
    host.stdin.close()
    host.wait(40)


@contextlib.contextmanager
def lease(kind: str) -> Iterator[HostedServers]:
    """Yield servers of the run. Raises RuntimeError with the host's reason."""
    path = Path(os.environ[MARK]) / SOCKET
    with socket.socket(socket.AF_UNIX) as connection:
        block_until(lambda: _connected(connection, path), what="the host of the test servers")
        connection.sendall(f"{kind}\n".encode())
        with connection.makefile("r") as lines:
            answer = json.loads(lines.readline() or '{"error": "the servers have ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        yield msgspec.convert(answer, HostedServers)


def _connected(connection: socket.socket, path: Path) -> bool:
    try:
        connection.connect(str(path))
    except OSError:
        return False
    return True
