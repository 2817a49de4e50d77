"""A Perigee service as a process."""

import json
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
        """Return the module of the process: `scoring-2` is a second `scoring`."""
        return f"services.{self.name.split('-')[0]}.main"

    @property
    def url(self) -> str:
        """Return the address of its API."""
        return f"http://127.0.0.1:{self.home.read('ports').get(self.name, 0)}"

    def start(self) -> None:
        """Start the service; a process with other settings is restarted."""
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
        """Wait until the service is ready."""
        self.process.wait_ready(self.ready, 60)

    def ready(self) -> bool:
        """Return whether `/readyz` answers 200."""
        if self.process.pid is None:
            return False
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=3) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def compiled_modules(self) -> dict[str, str]:
        """Return how the service's compiled parts run, from `/livez`.

        Empty when it does not answer.
        """
        if self.process.pid is None:
            return {}
        try:
            with urllib.request.urlopen(f"{self.url}/livez", timeout=3) as answer:  # noqa: S310
                modules: dict[str, str] = json.load(answer).get("modules", {})
        except (urllib.error.URLError, OSError, ValueError):
            return {}
        return modules

    def stop(self) -> None:
        """Stop the service; it finishes its requests and batches."""
        self.process.stop()
