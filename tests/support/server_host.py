"""Process that owns the servers of one test run and ends all processes of the run.

The controlling pytest process starts it and keeps its standard input open. Test processes send a
line on a Unix socket: `shared` for the servers of all, `topics` for a broker with fixed topics
that the caller alone uses until the connection ends. When standard input ends, for any reason,
every process with the run's mark in its environment is killed.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.support.waiting import block_until

if TYPE_CHECKING:
    from tests.support.servers import Servers

MARK = "TEST_RUN_FOLDER"
"""Environment variable with the run's folder; each process of the run inherits it."""
SOCKET = "servers.sock"


class ServerHost:
    """Servers that start at the first request."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._servers: Servers | None = None
        self._fault = ""
        self._template = f"template_{secrets.token_hex(4)}"
        self._brokers: list[str] = []
        self._leased: set[str] = set()

    def serve(self, path: Path) -> None:
        """Answer requests until the process ends."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(64)
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rw") as lines:
            kind = lines.readline().strip()
            broker = ""
            try:
                servers = self._start()
                broker = self._lease_broker(servers) if kind == "topics" else servers.kafka
                answer = {
                    "kafka": broker,
                    "database": servers.database,
                    "template": self._template,
                    "why": servers.why,
                    "session_timeout_ms": servers.session_timeout_ms,
                }
            except Exception as error:  # reported to the caller
                answer = {"error": f"{type(error).__name__}: {error}"}
            with contextlib.suppress(OSError):
                lines.write(json.dumps(answer) + "\n")
                lines.flush()
                lines.readline()  # returns when the caller has closed its end
            if kind == "topics":
                self._release_broker(broker)

    def _start(self) -> "Servers":
        from libs.common.db.migrate import upgrade  # costs a second
        from services.scoring.repository.touchpoint_partitions import create_partitions
        from tests.support.servers import execute, find_servers, with_database

        async def make_template(database: str) -> None:
            await execute(database, f'CREATE DATABASE "{self._template}"')
            url = with_database(database, self._template)
            await upgrade(url)
            await execute(url, lambda c: create_partitions(c, 1_780_000_000_000_000))

        with self._changed:
            if self._fault:
                raise RuntimeError(self._fault)
            if self._servers is None:
                try:
                    servers = find_servers(durable=False)
                    asyncio.run(make_template(servers.database))
                except Exception as error:
                    self._fault = f"no test servers: {error}"
                    raise
                self._servers, self._brokers = servers, [servers.kafka]
            return self._servers

    def _lease_broker(self, servers: "Servers") -> str:
        with self._changed:
            while not (free := [b for b in self._brokers if b not in self._leased]):
                if servers.start_kafka is not None:
                    self._brokers.append(servers.start_kafka())
                else:
                    self._changed.wait()
            self._leased.add(free[0])
            return free[0]

    def _release_broker(self, address: str) -> None:
        with self._changed:
            self._leased.discard(address)
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop containers, or drop the template database; embedded servers have the mark."""
        from tests.support.servers import execute

        servers = self._servers
        if servers is None or servers.why.startswith("embedded"):
            return
        if servers.start_kafka is None:
            asyncio.run(execute(servers.database, f'DROP DATABASE "{self._template}" WITH (FORCE)'))
        servers.stop()


def processes_of_run(folder: str) -> list[psutil.Process]:
    """Return the living processes that carry the run's mark, without this one."""
    marked = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == folder:
                marked.append(process)
    return marked


def end_run(folder: str) -> None:
    """Kill every process of the run; PostgreSQL frees its shared memory at SIGQUIT."""
    begin = time.monotonic()

    def none_left() -> bool:
        processes = processes_of_run(folder)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                patient = process.name() == "postgres" and time.monotonic() < begin + 10
                process.send_signal(signal.SIGQUIT if patient else signal.SIGKILL)
        return not processes

    with contextlib.suppress(AssertionError):
        block_until(none_left, 20, every=0.1)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Serve until standard input ends."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # servers that start do not answer yet
    folder = sys.argv[1]
    host = ServerHost()
    path = Path(folder) / SOCKET
    threading.Thread(target=host.serve, args=(path,), daemon=True).start()
    sys.stdin.read()
    with contextlib.suppress(Exception):
        host.stop()
    end_run(folder)
    os._exit(0)  # threads may still wait for a lease


if __name__ == "__main__":
    main()
