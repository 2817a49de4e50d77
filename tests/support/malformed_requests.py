"""Malformed requests by seed: broken bytes, framing, JSON and values."""

import copy
import gzip
import json
import random
from collections.abc import Callable

GOOD = {
    "type": "track",
    "event": "x",
    "userId": "u",
    "properties": {"total": 1.5},
    "context": {"page": {"url": "https://a.test/"}},
}
PATHS = (
    "/v1/track",
    "/v1/batch",
    "/v1/identify",
    "/v1/t",
    "/v1/import/",
    "/v1/b",
    "/v1/m",
    "/beacon/v1/batch",
    "/v1/hook/key",
    "/v1/pixel.gif",
    "/perigee.js",
    "/sourceConfig",
    "/v1/projects/x/settings",
    "/api/s/track",
    "/livez",
    "/nothing",
    "/admin/v1/sources",
    "/admin/v1/dlq",
    "//v1//track//",
    "/v1/%00",
    "/v1/\xff",
    "/v1/track?" + "a=1&" * 50,
)
VALUES = (
    None,
    True,
    0,
    -1,
    1 << 63,
    1 << 70,
    1e308,
    "",
    "x" * 600,
    "\0",
    "\ud800",
    "a\u202eb",
    [],
    {},
    [[]],
    {"a": {}},
    "2026-13-45",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
    "1e400",
    "null",
    "NaN",
)
FIELDS = (
    "type",
    "event",
    "userId",
    "anonymousId",
    "messageId",
    "timestamp",
    "sentAt",
    "properties",
    "context",
    "traits",
    "groupId",
    "previousId",
    "originalTimestamp",
    "writeKey",
    "integrations",
    "batch",
)
INSIDE = (
    "page",
    "campaign",
    "consent",
    "device",
    "traits",
    "content",
    "externalIds",
    "mode",
    "linkToken",
    "machine",
    "ip",
    "userAgent",
)
LITERALS = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"1" * 400,
    b"-0",
    b"01",
    b'"\\u0000"',
    b'"\\ud83d"',
    b"\xff",
)
HEADS = (
    "x: " + "y" * 70_000,
    "authorization: Basic " + "!" * 30,
    "authorization: Basic /w==",
    "origin: \x01",
    "x-forwarded-for: \xff",
    "content-type: multipart/form-data",
    "expect: 100-continue",
    "upgrade: websocket",
    ": nameless",
)
ENCODINGS = ("gzip", "GZIP", "deflate", "br", "gzip, gzip", "")
METHODS = ("POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "BREW", "post", "")


class MalformedRequests:
    """Generates requests from a seed."""

    def __init__(self, seed: int, key: str) -> None:
        self.chance = random.Random(seed)
        self.key = key
        self._makers: list[Callable[[], bytes]] = [
            self.noise, self.bent, self.framing, self.values, self.values, self.values,
            self.batches, self.zipped, self.deep, self.literals, self.heads,
        ]  # fmt: skip

    def next_request(self) -> bytes:
        """Return a request."""
        return self.chance.choice(self._makers)()

    def request(
        self,
        body: bytes,
        *extra: str,
        method: str = "POST",
        path: str = "",
        length: int | None = None,
    ) -> bytes:
        """Return a request with the key and a body; `length` is its content-length."""
        path = path or self.chance.choice(PATHS[:8])
        head = [
            f"{method} {path} HTTP/1.1",
            "host: ingest",
            f"x-write-key: {self.key}",
            "connection: close",
            *extra,
        ]
        head.append(f"content-length: {len(body) if length is None else length}")
        return "\r\n".join([*head, "", ""]).encode("latin-1") + body

    def noise(self) -> bytes:
        return self.chance.randbytes(self.chance.randrange(1, 400)) + b"\r\n\r\n"

    def bent(self) -> bytes:
        body = bytearray(
            json.dumps({"batch": [GOOD]} if self.chance.random() < 0.5 else GOOD).encode()
        )
        for _ in range(self.chance.randrange(1, 6)):
            body[self.chance.randrange(len(body))] = self.chance.randrange(256)
        return self.request(bytes(body[: self.chance.randrange(1, len(body) + 1)]))

    def framing(self) -> bytes:
        body = json.dumps(GOOD).encode()
        kind = self.chance.randrange(8)
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        makers = [
            lambda: self.request(body, length=len(body) - self.chance.randrange(1, 9)),
            lambda: self.request(body, length=self.chance.choice([-1, 1 << 40, 10**30])),
            lambda: self.request(chunked, "transfer-encoding: chunked"),
            lambda: self.request(body, "transfer-encoding: chunked, identity"),
            lambda: self.request(body, f"content-length: {len(body) + 1}"),
            lambda: self.request(b"zz\r\n" + body, "transfer-encoding: chunked").replace(
                b"content-length", b"x-length"
            ),
            lambda: self.request(body).replace(
                b"HTTP/1.1", self.chance.choice([b"HTTP/9.9", b"HTTP/1.0", b"", b"HTTP/1.1 x"])
            ),
            lambda: self.request(body).replace(
                b"\r\n", self.chance.choice([b"\n", b"\r", b"\r\n "])
            ),
        ]
        return makers[kind]()

    def values(self) -> bytes:
        call = json.loads(json.dumps(GOOD))
        for _ in range(self.chance.randrange(1, 4)):
            value = copy.deepcopy(self.chance.choice(VALUES))
            if self.chance.random() < 0.6:
                call[self.chance.choice(FIELDS)] = value
            elif isinstance(call.get("context"), dict):
                call["context"][self.chance.choice(INSIDE)] = value
        return self.request(json.dumps(call).encode())

    def batches(self) -> bytes:
        parts = [self.chance.choice([GOOD, *VALUES]) for _ in range(self.chance.randrange(8))]
        batch = {name: self.chance.choice(VALUES) for name in ("sentAt", "context")}
        batch["batch"] = self.chance.choice([parts, *VALUES])
        return self.request(json.dumps(batch).encode(), path="/v1/batch")

    def zipped(self) -> bytes:
        plain = self.chance.choice([json.dumps(GOOD).encode(), b"\0" * 6_000_000, b"[" * 100_000])
        body = gzip.compress(plain, 1)
        content = body + self.chance.choice([b"", b"x", body[:50]])
        if self.chance.random() < 0.4:
            content = body[: self.chance.randrange(len(body))]
        return self.request(
            content,
            f"content-encoding: {self.chance.choice(ENCODINGS)}",
        )

    def deep(self) -> bytes:
        depth = self.chance.choice([19, 21, 100, 5_000, 100_000])
        opening, closing = self.chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
        inner = opening * depth + b"1" + (closing * depth if self.chance.random() < 0.7 else b"")
        return self.request(
            b'{"type":"track","event":"x","userId":"u","properties":{"a":' + inner + b"}}",
            path="/v1/track",
        )

    def literals(self) -> bytes:
        word = self.chance.choice(LITERALS)
        return self.request(
            b'{"type":"track","event":"x","userId":"u","properties":{"v":' + word + b"}}",
            path="/v1/track",
        )

    def heads(self) -> bytes:
        extra = self.chance.choice(HEADS)
        method, path = self.chance.choice(METHODS), self.chance.choice(PATHS)
        return self.request(json.dumps(GOOD).encode(), extra, method=method, path=path)
