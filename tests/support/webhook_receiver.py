"""A webhook receiver: an HTTP server that keeps its requests and gives the configured answer.

As a program (`python -m tests.support.webhook_receiver PORT FILE [HOST]`) it writes each delivery
down before it answers 200, so that it can be killed at any moment.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.waiting import last

Answer = tuple[int, dict[str, str]]
Responder = Callable[[dict[str, Any]], Answer | float]
"""From a delivery's body to (status, headers), or to seconds of silence."""


class WebhookReceiver:
    """Keeps deliveries as (headers, body)."""

    def __init__(self, answering: Responder = lambda _: (200, {})) -> None:
        self.answering = answering
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.text = b""
        """What it says in its answers."""
        self.hesitates = 0.0
        """Seconds between having a delivery and saying so."""
        self.at_once = self.most_at_once = 0
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Listen and return the URL."""
        self._server = await asyncio.start_server(self._connection, host, port)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    async def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()
            self._server = None

    @property
    def webhook_ids(self) -> list[str]:
        """The `webhook-id` of each delivery, in the order of arrival."""
        return [headers["webhook-id"] for headers, _ in self.seen]

    @property
    def payloads(self) -> list[dict[str, Any]]:
        """The `data` of each delivery."""
        return [json.loads(body)["data"] for _, body in self.seen]

    def keep(self, headers: dict[str, str], body: bytes) -> None:
        """Keep a delivery."""
        self.seen.append((headers, body))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {
                    n.lower(): v for n, _, v in (line.partition(": ") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers["content-length"]))
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                answer = self.answering(json.loads(body))
                if isinstance(answer, float):
                    await last(answer)
                    answer = (200, {})
                self.keep(headers, body)
                await last(self.hesitates)
                said = "".join(f"{name}: {value}\r\n" for name, value in answer[1].items())
                self.at_once -= 1
                length = len(self.text)
                writer.write(
                    f"HTTP/1.1 {answer[0]} -\r\n{said}Content-Length: {length}\r\n\r\n".encode()
                    + self.text
                )
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class FileWebhookReceiver(WebhookReceiver):
    """Writes each delivery to a file before it answers."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.hesitates = 0.005
        self._file = path.open("a", encoding="utf-8")

    def keep(self, headers: dict[str, str], body: bytes) -> None:
        """Write a delivery down."""
        self._file.write(json.dumps({"headers": headers, "body": body.decode()}) + "\n")
        self._file.flush()


async def _serve(port: int, path: Path, host: str = "127.0.0.1") -> None:
    await FileWebhookReceiver(path).start(port, host)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
