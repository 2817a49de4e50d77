"""Posting to addresses that strangers gave: only to the public internet, no redirects, no proxies, bounded in time and bytes.

The host is looked up here, every address that comes back is judged, and the connection goes to one that was judged: a name that
leads elsewhere a moment later leads nowhere. TLS still checks the certificate against the name.
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
_SHOWN = 200

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""What looks a host up: (host, port) to IP addresses. Raises OSError."""


class AddressNotAllowed(OSError):  # noqa: N818
    """The host leads to where no webhook goes."""


class DnsResolver:
    """Looks hosts up with the system's resolver, on threads of its own: one that hangs keeps nobody else waiting.

    Who asks for a host that is being looked up waits for the same answer, so that a host holds one thread at most.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(16, "webhook-resolver")
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, the system's first choice first. Raises OSError."""
        place = (host, port)
        if place not in self._asked:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
            self._asked[place] = asked
            asked.add_done_callback(lambda _: self._asked.pop(place, None))
        try:
            async with asyncio.timeout(DNS_TIMEOUT_SECONDS):
                return await asyncio.shield(self._asked[place])
        except TimeoutError:
            raise OSError(
                f"{host} could not be looked up within {DNS_TIMEOUT_SECONDS:.0f} s"
            ) from None


def _look_up(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(f"{host} is no name of a host") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedNetworkBackend(httpcore2.AsyncNetworkBackend):
    """Connects to judged addresses only; `private` lets all through, for receivers beside Perigee."""

    def __init__(self, resolve: Resolve, *, private: bool) -> None:
        self._resolve = resolve
        self._private = private
        self._inner = httpcore2.AnyIOBackend()

    async def resolve_allowed(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host. Raises AddressNotAllowed when one of them is refused, OSError when it has none."""
        addresses = await self._resolve(host, port)
        if not addresses:
            raise OSError(f"{host} has no address")
        faults = [] if self._private else [why for why in map(address_fault, addresses) if why]
        if faults:
            log.warning(
                "webhook_address_refused", host=host, why=faults[0]
            )  # for us: it would map our network for others
            raise AddressNotAllowed(
                f"{host} leads to an address that is not on the public internet"
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
        """Look up, judge, connect to the first address that answers."""
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
    """Posts bodies; every fault is an Answer."""

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
        """Return why nothing can be posted to a URL, or None."""
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
        """Post once and return what came back."""
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
            return WebhookAnswer(None, f"{type(error).__name__}: {error}"[:_SHOWN], reached=False)
        except Exception as error:  # noqa: BLE001
            return WebhookAnswer(None, f"{type(error).__name__}: {error}"[:_SHOWN])

    async def _send(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> WebhookAnswer:
        async with self._pool.stream("POST", url, headers=[*headers], content=body) as response:
            said = {name.lower(): value for name, value in response.headers}
            text, size = b"", 0
            async for part in response.aiter_stream():
                size += len(part)
                text += part[: _SHOWN - len(text)]
                if size > MAX_RESPONSE_BYTES:
                    break
            shown = text.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
            return WebhookAnswer(response.status, shown, self._pause(said.get(b"retry-after")))

    def _pause(self, given: bytes | None) -> int | None:
        text = given.decode("latin-1") if given is not None else None
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
