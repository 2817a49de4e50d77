"""HTTP proxy before ingest that loses a response, duplicates a request and answers 429 once.

Of the POST requests it answers the first one 504 after ingest has answered it, forwards the second
twice and answers the third 429. A library has to retry, and no message may be stored twice.
"""

import threading
from typing import Any

import httpx2
import uvicorn
from starlette.types import Receive, Scope, Send

from libs.common.http.cors import cors_headers
from tests.support.servers import _free_port

_HOP_HEADERS = ("content-length", "content-encoding", "date", "server")


class FaultyProxy:
    """Proxy server in a thread; `away` makes it answer every POST 503."""

    def __init__(self, target_url: str, *, faulty: bool = True) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lost = self.twice = self.limited = 0
        self.away = False
        self._target_url = target_url
        self._faulty = faulty
        self._posts = 0
        self._client = httpx2.AsyncClient(timeout=20, trust_env=False)
        config = uvicorn.Config(
            self._serve,
            host="127.0.0.1",
            port=self.port,
            log_level="error",
            lifespan="off",
            interface="asgi3",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the server."""
        self._server.should_exit = True
        self._thread.join(10)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        headers = [
            (k, v)
            for k, v in scope["headers"]
            if k not in (b"host", b"content-length", b"connection")
        ]
        headers.append((b"x-forwarded-host", f"127.0.0.1:{self.port}".encode()))

        async def forward() -> Any:
            return await self._client.request(
                scope["method"],
                f"{self._target_url}{scope['path']}{query}",
                content=body,
                headers=headers,
            )

        if self.away and scope["method"] == "POST":
            await _answer(
                send,
                503,
                b'{"code":"unavailable","message":"away"}',
                [*_cors(scope), (b"retry-after", b"1")],
            )
            return
        post_number = 0
        if self._faulty and scope["method"] == "POST":
            self._posts += 1
            post_number = self._posts
        if post_number == 3:
            self.limited += 1
            await _answer(
                send,
                429,
                b'{"code":"slow_down","message":"later"}',
                [*_cors(scope), (b"retry-after", b"1")],
            )
            return
        answer = await forward()
        if post_number == 2:
            self.twice += 1
            answer = await forward()
        if post_number == 1:
            self.lost += 1
            await _answer(
                send,
                504,
                b'{"code":"gateway_timeout","message":"the answer was lost"}',
                _cors(scope),
            )
            return
        headers_kept = [
            (k.encode(), v.encode()) for k, v in answer.headers.items() if k not in _HOP_HEADERS
        ]
        await _answer(send, answer.status_code, answer.content, headers_kept)


def _cors(scope: Scope) -> list[tuple[bytes, bytes]]:
    return cors_headers(dict(scope["headers"]))


async def _answer(
    send: Send, status: int, content: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    length = [] if status == 204 else [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": content})
