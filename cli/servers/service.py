"""One of Perigee's own services as a process."""

import os
import sys
import urllib.error
import urllib.request

from cli.home import PROJECT, Home
from cli.servers.managed_process import ManagedProcess


class ServiceProcess:
    """`ingest`, `scoring` (also `scoring-2` …) or `orchestrator`."""

    def __init__(self, home: Home, name: str, environment: dict[str, str]) -> None:
        self.home = home
        self.name = name
        self.process = ManagedProcess(home, name)
        self._environment = environment

    @property
    def module(self) -> str:
        """Return the module that runs: `scoring-2` is another `scoring`."""
        return f"services.{self.name.split('-')[0]}.main"

    @property
    def url(self) -> str:
        """Return the address of its door or side port."""
        return f"http://127.0.0.1:{self.home.read('ports').get(self.name, 0)}"

    def start(self) -> None:
        """Start it; one that runs with other settings is started again."""
        running = self.process.pid is not None
        port = self.home.allocate_port(self.name, running=running)
        command = [sys.executable, "-m", self.module]
        environment = {**os.environ, **self._environment, "PERIGEE_PORT": str(port)}
        if running and self.process.runs_as(command, environment):
            return
        if running:
            self.process.stop()
        self.process.start(command, environment, PROJECT)

    def wait(self) -> None:
        """Wait until it is ready."""
        self.process.wait_ready(self.ready, 60)

    def ready(self) -> bool:
        """Return whether `/readyz` says so."""
        if self.process.pid is None:
            return False
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=3) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Stop it; it finishes what it has in hand."""
        self.process.stop()
