"""`/livez`, `/readyz` and `/metrics`, the same on every service."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

Check = Callable[[], Awaitable[str | None]]


class HealthChecks:
    """Health of a process: alive while it makes progress, ready while every check passes."""

    def __init__(
        self,
        checks: dict[str, Check],
        alive: Callable[[], str | None] = lambda: None,
        modules: Mapping[str, str] | None = None,
    ) -> None:
        """`modules` maps each part that can be compiled to `compiled` or `uncompiled`."""
        self.checks = checks
        self.alive = alive
        self.modules = dict(modules or {})

    async def livez(self, _: Request) -> Response:
        """Answer 200 while the process makes progress, else 503 with the fault."""
        fault = self.alive()
        return JSONResponse(
            {"alive": fault is None, "fault": fault, "modules": self.modules},
            status_code=503 if fault else 200,
        )

    async def readyz(self, _: Request) -> Response:
        """Answer 200 when every check passes, else 503; each check has its fault or null."""
        faults = {name: await _fault_of(check) for name, check in self.checks.items()}
        ready = not any(faults.values())
        return JSONResponse({"ready": ready, "checks": faults}, status_code=200 if ready else 503)

    async def metrics(self, _: Request) -> Response:
        """Answer with the Prometheus exposition."""
        return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})

    def routes(self) -> list[BaseRoute]:
        """Return the three paths as routes of an application."""
        paths = {"/livez": self.livez, "/readyz": self.readyz, "/metrics": self.metrics}
        return [Route(path, endpoint) for path, endpoint in paths.items()]

    def app(self) -> Starlette:
        """Return an application with the three paths only."""
        return Starlette(routes=self.routes())


async def _fault_of(check: Check) -> str | None:
    try:
        return await asyncio.wait_for(check(), 2)
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


class _Server(uvicorn.Server):
    """uvicorn server without signal handlers: signals set the process's `stop` event instead.

    Its loop ticks once a second and ends at once when `should_exit` is set. uvicorn's own loop
    polls `should_exit` ten times a second, which is a fifth of the cost of an idle service.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        self._exit = asyncio.Event()
        super().__init__(config)

    @property
    def should_exit(self) -> bool:
        """Return whether the server is to end."""
        return self._exit.is_set()

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        """Let the server end if the value is true."""
        if value:
            self._exit.set()

    async def main_loop(self) -> None:
        """Tick until `should_exit` is set; a tick of number 0 updates the Date header."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exit.wait(), 1)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield


def build_server(
    app: ASGIApp, host: str, port: int, protocol: Callable[..., asyncio.Protocol] | None = None
) -> uvicorn.Server:
    """Return a uvicorn server with the common limits; `protocol` replaces uvicorn's own."""
    return _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
            limit_concurrency=2_000,
            lifespan="off",
            ws="none",
            http=protocol or "auto",  # type: ignore[arg-type]
            log_config=None,
        )
    )
