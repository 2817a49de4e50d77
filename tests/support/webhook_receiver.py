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
    """Records deliveries as (headers, body)."""

    def __init__(self, respond: Responder = lambda _: (200, {})) -> None:
        self.respond = respond
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.text = b""
        """Body of its responses."""
        self.response_delay = 0.0
        """Seconds between a delivery and its response."""
        self.concurrent = self.max_concurrent = 0
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Listen and return the URL."""
        self._server = await asyncio.start_server(self._connection, host, port)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    async def stop(self) -> None:
        """Close the listening socket."""
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
                self.concurrent += 1
                self.max_concurrent = max(self.max_concurrent, self.concurrent)
                response = self.respond(json.loads(body))
                if isinstance(response, float):
                    await last(response)
                    response = (200, {})
                self.keep(headers, body)
                await last(self.response_delay)
                header_lines = "".join(
                    f"{name}: {value}\r\n" for name, value in response[1].items()
                )
                self.concurrent -= 1
                length = len(self.text)
                head_lines = f"HTTP/1.1 {response[0]} -\r\n{header_lines}Content-Length: {length}"
                writer.write(f"{head_lines}\r\n\r\n".encode() + self.text)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class FileWebhookReceiver(WebhookReceiver):
    """Writes each delivery to a file before it answers."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.response_delay = 0.005
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
