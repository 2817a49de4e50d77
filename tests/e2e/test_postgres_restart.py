"""The embedded PostgreSQL restarts after a crash, also while old backends still end."""

import os
import signal
import threading

import psutil

from cli.home import Home
from cli.servers.postgres import PostgresServer
from tests.support.waiting import block_until


def backends_of(server):
    return [
        process.pid
        for process in psutil.process_iter(["cwd"])
        if process.info["cwd"] == str(server.data.resolve()) and process.pid != server.process.pid
    ]


def test_restart_waits_for_backends_of_killed_server(tmp_path):
    for folder in ("logs", "run"):
        (tmp_path / folder).mkdir()
    server = PostgresServer(Home(tmp_path))
    server.start()
    server.wait()
    backend = backends_of(server)[0]
    os.kill(backend, signal.SIGSTOP)
    os.kill(server.process.pid, signal.SIGKILL)
    block_until(lambda: server.process.pid is None, what="the end of the killed server")
    threading.Timer(1.0, os.kill, (backend, signal.SIGCONT)).start()

    server.start()
    server.wait()

    assert server.ready()

    server.stop()
