"""Local mail catcher: every mail becomes a file, and none leaves the machine."""

import os
import socket
import sys
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

from cli.home import PROJECT, Home
from cli.servers.managed_process import ManagedProcess


class MailCatcher:
    """The mail catcher of a home."""

    name = "mail"

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process = ManagedProcess(home, self.name)
        self.folder = home.folder / "mail"

    @property
    def port(self) -> int:
        """Return the SMTP port."""
        return int(self.home.read("ports").get("mail", 0))

    def start(self) -> None:
        """Start the catcher."""
        if self.process.pid is not None:
            return
        self.folder.mkdir(exist_ok=True)
        port = self.home.allocate_port("mail", running=False)
        self.process.start(
            [sys.executable, "-m", "cli.servers.mail", str(port), str(self.folder)],
            dict(os.environ),
            PROJECT,
        )

    def wait(self) -> None:
        """Wait for the greeting."""
        self.process.wait_ready(self.ready, 20)

    def ready(self) -> bool:
        """Return whether the catcher greets."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return connection.recv(3) == b"220"
        except OSError:
            return False

    def stop(self) -> None:
        """Stop the catcher."""
        self.process.stop()


class KeepAsFile:
    """Handler that aiosmtpd calls with each mail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = len(list(folder.glob("*.eml")))

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: ARG002, N802
        """Write the mail whole, then accept it."""
        self.count += 1
        name = f"{self.count:06d}-{sha256(envelope.content).hexdigest()[:8]}"
        fresh = self.folder / f"{name}.part"
        fresh.write_bytes(envelope.content)
        fresh.rename(self.folder / f"{name}.eml")
        return "250 kept"


def main(port: int, folder: Path) -> None:
    """Serve until killed."""
    from aiosmtpd.controller import Controller

    Controller(
        KeepAsFile(folder), hostname="127.0.0.1", port=port, ident="perigee mail catcher"
    ).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
