"""Faulty network between Perigee and its servers: cut, slow, late, silent, resetting.

`ToxiproxyNetwork` runs toxiproxy (`make .perigee/toxiproxy/server`, which needs Go);
`AsyncioNetwork` needs asyncio alone, so that a short form runs everywhere.
"""

import asyncio
import contextlib
import socket
import struct
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Protocol

import msgspec

from tests.support.servers import _free_port
from tests.support.waiting import block_until, last

KINDS = ("cut", "late", "slow", "silent", "one_way", "reset")
"""Faults: cut (refused and broken), late (200 ms more), slow (10 kB/s), silent (no bytes pass),
one_way (no response passes), reset (RST)."""
DELAY, RATE = 0.2, 10_000


class FaultyNetwork(Protocol):
    """Named links through a proxy."""

    def link(self, name: str, port: int) -> int:
        """Start a proxy of a local port; return the proxy's port."""
        ...

    def inject(self, name: str, kind: str) -> None:
        """Inject one of KINDS into a link."""
        ...

    def heal(self, name: str) -> None:
        """Remove the fault of a link; close its connections that lost bytes."""
        ...

    def close(self) -> None:
        """Stop the proxies."""
        ...


class ToxiproxyNetwork:
    """Faulty network by toxiproxy's HTTP API."""

    _TOXICS = {  # noqa: RUF012
        "late": ("latency", "downstream", {"latency": int(DELAY * 1_000)}),
        "slow": ("bandwidth", "downstream", {"rate": RATE // 1_000}),
        "one_way": ("timeout", "downstream", {"timeout": 0}),
        "silent": ("timeout", "upstream", {"timeout": 0}),
        "reset": ("reset_peer", "downstream", {"timeout": 0}),
    }

    def __init__(self, program: Path) -> None:
        port = _free_port()
        self._api = f"http://127.0.0.1:{port}"
        if not program.exists():
            raise RuntimeError(
                f"{program} is missing: 'make test-faults' builds it, which needs Go"
            )
        self._process = subprocess.Popen(
            [str(program), "-host", "127.0.0.1", "-port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        block_until(self._answers, what="toxiproxy")

    def _answers(self) -> bool:
        try:
            self._call("GET", "/version")
        except OSError:
            return False
        return True

    def _call(self, method: str, path: str, body: object = None) -> None:
        data = None if body is None else msgspec.json.encode(body)
        request = urllib.request.Request(
            self._api + path,
            data,
            {"Content-Type": "application/json", "User-Agent": "perigee-tests"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=5):
            pass

    def link(self, name: str, port: int) -> int:
        """Start a proxy of a local port; return the proxy's port."""
        proxy_port = _free_port()
        self._call(
            "POST",
            "/proxies",
            {
                "name": name,
                "listen": f"127.0.0.1:{proxy_port}",
                "upstream": f"127.0.0.1:{port}",
                "enabled": True,
            },
        )
        return proxy_port

    def inject(self, name: str, kind: str) -> None:
        """Inject one of KINDS into a link."""
        if kind == "cut":
            self._call("POST", f"/proxies/{name}", {"enabled": False})
            return
        toxic, stream, attributes = self._TOXICS[kind]
        body = {"name": kind, "type": toxic, "stream": stream, "attributes": attributes}
        self._call("POST", f"/proxies/{name}/toxics", body)

    def heal(self, name: str) -> None:
        """Remove the fault of a link; close its connections that lost bytes."""
        for kind in self._TOXICS:
            with contextlib.suppress(urllib.error.HTTPError):
                if kind in ("silent", "one_way"):
                    self._call("GET", f"/proxies/{name}/toxics/{kind}")
                    self._call("POST", f"/proxies/{name}", {"enabled": False})
                self._call("DELETE", f"/proxies/{name}/toxics/{kind}")
        self._call("POST", f"/proxies/{name}", {"enabled": True})

    def close(self) -> None:
        """Stop the proxies."""
        self._process.terminate()
        self._process.wait(10)


class AsyncioNetwork:
    """Faulty network by an event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._kinds: dict[str, str] = {}
        self._open: dict[str, set[asyncio.StreamWriter]] = {}
        self._servers: list[asyncio.Server] = []

    def link(self, name: str, port: int) -> int:
        """Start a proxy of a local port; return the proxy's port."""
        proxy_port = _free_port()

        async def serve() -> None:
            forward = lambda r, w: self._forward(name, port, r, w)  # noqa: E731
            self._servers.append(await asyncio.start_server(forward, "127.0.0.1", proxy_port))

        self._open[name] = set()
        asyncio.run_coroutine_threadsafe(serve(), self._loop).result(10)
        return proxy_port

    def inject(self, name: str, kind: str) -> None:
        """Inject one of KINDS into a link."""
        self._kinds[name] = kind
        if kind in ("cut", "reset"):
            self._loop.call_soon_threadsafe(self._break, name)

    def heal(self, name: str) -> None:
        """Remove the fault of a link; close its connections that lost bytes."""
        if self._kinds.pop(name, "") in ("silent", "one_way"):
            self._loop.call_soon_threadsafe(self._break, name)

    def close(self) -> None:
        """Close every connection, then stop the loop."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for name in self._open:
            self._break(name)
        other_tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in other_tasks:
            task.cancel()
        await asyncio.gather(*other_tasks, return_exceptions=True)

    def _break(self, name: str) -> None:
        for writer in self._open[name]:
            _reset(writer)

    async def _forward(
        self, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._kinds.get(name) in ("cut", "reset"):
            _reset(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            _reset(writer)
            return
        writers = {writer, server_writer}
        self._open[name] |= writers
        try:
            await asyncio.gather(
                self._pump(name, reader, server_writer, up=True),
                self._pump(name, server_reader, writer, up=False),
            )
        except OSError:
            pass
        finally:
            self._open[name] -= writers
            for open_writer in writers:
                open_writer.close()

    async def _pump(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        while data := await reader.read(65_536):
            kind = self._kinds.get(name)
            if kind == "silent" or (kind == "one_way" and not up):
                continue
            if not up and kind in ("late", "slow"):
                await last(DELAY if kind == "late" else len(data) / RATE)
            writer.write(data)
            await writer.drain()
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection with RST and without its unsent bytes, as a crashed machine does."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()
