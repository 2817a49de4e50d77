"""HTTP client for untrusted URLs: public internet only, no redirects, no proxies, bounded.

The client resolves the host, checks every address and connects to a checked address, so DNS
rebinding has no effect. TLS still verifies the certificate against the host name.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import httpcore2

from libs.common.clock import Clock
from libs.common.instants import from_datetime
from libs.common.observability import logs
from services.orchestrator.webhooks.addresses import address_fault, url_fault
from services.orchestrator.webhooks.standard_webhooks import WebhookAnswer, parse_retry_after

log = logs.get_logger(__name__)
REQUEST_TIMEOUT_SECONDS = 15.0
DNS_TIMEOUT_SECONDS = 5.0
CONNECT_TIMEOUT_SECONDS = 4.0
MAX_RESPONSE_BYTES = 65_536
_MAX_DETAIL_CHARACTERS = 200

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolver of a host: (host, port) to IP addresses. Raises OSError."""


class AddressNotAllowed(OSError):  # noqa: N818
    """The host resolves to an address to which no webhook may go."""


class DnsResolver:
    """System resolver on dedicated threads, so that a lookup that hangs does not block other work.

    Concurrent lookups of the same host share one result, so a host occupies at most one thread.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(16, "webhook-resolver")
        self._pending: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host in the order of the system resolver. Raises OSError."""
        endpoint = (host, port)
        if endpoint not in self._pending:
            lookup = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
            self._pending[endpoint] = lookup
            lookup.add_done_callback(lambda _: self._pending.pop(endpoint, None))
        try:
            async with asyncio.timeout(DNS_TIMEOUT_SECONDS):
                return await asyncio.shield(self._pending[endpoint])
        except TimeoutError:
            raise OSError(
                f"DNS lookup of {host} timed out after {DNS_TIMEOUT_SECONDS:.0f} s"
            ) from None


def _look_up(host: str, port: int) -> list[str]:
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(f"{host} is not a valid host name") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


class GuardedNetworkBackend(httpcore2.AsyncNetworkBackend):
    """Network backend that connects to checked addresses only; `private` allows every address."""

    def __init__(self, resolve: Resolve, *, private: bool) -> None:
        self._resolve = resolve
        self._private = private
        self._inner = httpcore2.AnyIOBackend()

    async def resolve_allowed(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host.

        Raises AddressNotAllowed if any address is refused, OSError if the host has none.
        """
        addresses = await self._resolve(host, port)
        if not addresses:
            raise OSError(f"{host} has no address")
        faults = (
            [] if self._private else [fault for fault in map(address_fault, addresses) if fault]
        )
        if faults:
            # Only our log names the address: in the error it would reveal our network.
            log.warning("webhook_address_refused", host=host, why=faults[0])
            raise AddressNotAllowed(
                f"{host} resolves to an address that is not on the public internet"
            )
        return addresses

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve and check the host, then connect to the first address that answers."""
        last: Exception = OSError(f"{host} has no address")
        for address in (await self.resolve_allowed(host, port))[:4]:
            try:
                wait = min(timeout or CONNECT_TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS)
                return await self._inner.connect_tcp(
                    address, port, wait, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
        raise last

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class WebhookClient:
    """Client that posts webhook bodies; every fault is returned as a WebhookAnswer."""

    def __init__(
        self,
        clock: Clock,
        *,
        private: bool,
        resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._clock = clock
        self._private = private
        self._network = GuardedNetworkBackend(resolve or DnsResolver(), private=private)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context or ssl.create_default_context(),
            max_connections=None,
            max_keepalive_connections=100,
            keepalive_expiry=30,
            network_backend=self._network,
        )

    async def check_url(self, url: str) -> str | None:
        """Return the reason why a URL cannot receive webhooks, or None. The host is resolved."""
        fault = url_fault(url, private=self._private)
        if fault is None:
            target = httpcore2.URL(url)
            try:
                await self._network.resolve_allowed(
                    target.host.decode("ascii").strip("[]"), target.port or 443
                )
            except OSError as error:
                return str(error)
        return fault

    async def post(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> WebhookAnswer:
        """Post once and return the answer. Never raises."""
        fault = url_fault(url, private=self._private)
        if fault is not None:
            return WebhookAnswer(None, fault, reached=False)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                return await self._send(url, headers, body)
        except TimeoutError:
            return WebhookAnswer(None, f"no answer within {REQUEST_TIMEOUT_SECONDS:.0f} s")
        except AddressNotAllowed as error:
            return WebhookAnswer(None, str(error), reached=False)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            return WebhookAnswer(
                None, f"{type(error).__name__}: {error}"[:_MAX_DETAIL_CHARACTERS], reached=False
            )
        except Exception as error:  # noqa: BLE001
            return WebhookAnswer(None, f"{type(error).__name__}: {error}"[:_MAX_DETAIL_CHARACTERS])

    async def _send(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> WebhookAnswer:
        async with self._pool.stream("POST", url, headers=[*headers], content=body) as response:
            headers_by_name = {name.lower(): value for name, value in response.headers}
            body_start, size = b"", 0
            async for part in response.aiter_stream():
                size += len(part)
                body_start += part[: _MAX_DETAIL_CHARACTERS - len(body_start)]
                if size > MAX_RESPONSE_BYTES:
                    break
            detail = body_start.decode("utf-8", "replace")
            detail = detail.replace("\0", "\N{REPLACEMENT CHARACTER}")
            pause = self._retry_pause(headers_by_name.get(b"retry-after"))
            return WebhookAnswer(response.status, detail, pause)

    def _retry_pause(self, retry_after: bytes | None) -> int | None:
        text = retry_after.decode("latin-1") if retry_after is not None else None
        try:
            date = (
                from_datetime(parsedate_to_datetime(text))
                if text and not text.strip().isdigit()
                else None
            )
        except (ValueError, TypeError, OverflowError):
            date = None
        return parse_retry_after(text, self._clock.now(), date)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()
