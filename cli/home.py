"""PERIGEE_HOME: the folder with the data, ports, keys and logs of one running instance."""

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libs.common.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parent.parent

DEFAULT_PORTS = {
    "kafka": 9092,
    "kafka-controller": 9093,
    "postgres": 5432,
    "mail": 1025,
    "ingest": 8080,
    "scoring": 8081,
    "orchestrator": 8090,
}


class Home:
    """The files of one instance. Nothing here starts or stops anything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def from_environment(cls) -> "Home":
        """Return the home at PERIGEE_HOME, else at `.perigee` in the project."""
        return cls(Path(os.environ.get("PERIGEE_HOME") or PROJECT / ".perigee").resolve())

    def create(self) -> None:
        """Create the folder, readable by its owner only."""
        for name in ("", "run", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def exists(self) -> bool:
        """Return whether an instance was ever started here."""
        return (self.folder / "run").is_dir()

    def read(self, name: str) -> dict[str, Any]:
        """Return the JSON object kept under `name`, empty when there is none."""
        try:
            content: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as error:
            raise ConfigurationError(
                f"{self.folder / name}.json is unreadable ({error}): repair or remove it"
            ) from None
        return content

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON object under `name`, whole or not at all."""
        path = self.folder / f"{name}.json"
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(content, indent=1))
        fresh.replace(path)

    def get_secret(self, name: str) -> str:
        """Return the secret kept under `name`, made at random the first time."""
        kept = self.read("secrets")
        if name not in kept:
            kept[name] = secrets.token_urlsafe(24)
            self.write("secrets", kept)
        return str(kept[name])

    def store_environment(self, **options: Any) -> None:
        """Keep settings of this instance over its restarts."""
        self.write("options", {**self.read("options"), **options})

    def allocate_port(self, name: str, *, running: bool) -> int:
        """Return the port of `name`: set by hand, else kept, else the default, else any free port.

        Raises ConfigurationError when a port set by hand is taken by a process outside this home.
        """
        variable = f"PERIGEE_{name.upper().replace('-', '_')}_PORT"
        kept = self.read("ports")
        if running and name in kept:
            return int(kept[name])
        given = os.environ.get(variable)
        if given:
            port = _parse_port(variable, given)
            if not is_port_free(port):
                raise ConfigurationError(
                    f"{variable}={port}: the port is taken; free it or choose another"
                )
        else:
            preferred = int(kept.get(name) or DEFAULT_PORTS.get(name) or 0)
            reserved = {int(value) for key, value in kept.items() if key != name}
            port = (
                preferred
                if preferred and preferred not in reserved and is_port_free(preferred)
                else _any_free_port(reserved)
            )
        self.write("ports", {**kept, name: port})
        return port

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the home against a second `up` or `down` at the same time."""
        import fcntl

        self.create()
        with (self.folder / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _parse_port(variable: str, text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigurationError(f"{variable}={text}: not a port number (1-65535)")
    return int(text)


def is_port_free(port: int) -> bool:
    """Return whether the port of 127.0.0.1 is unused."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_free_port(reserved: set[int]) -> int:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in reserved:
            return port
