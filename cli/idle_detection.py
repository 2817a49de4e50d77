"""Detection of an idle instance: no lag, empty queues, no timer due in any service."""

import time
from collections.abc import Callable

from cli.api_client import ServiceVariable, call_api
from libs.common.api_keys import DEFAULT_WORKSPACE
from libs.common.errors import Unavailable

SERVICES: tuple[ServiceVariable, ...] = ("SCORING_URL", "ORCHESTRATOR_URL")
POLL_SECONDS = 0.3
REPORT_SECONDS = 3.0
REQUEST_SECONDS = 5.0


class IdleDetector:
    """Polls the services; idle takes two polls without new messages between them.

    A single poll is not enough: meanwhile the service polled second could send work to the first.
    """

    def __init__(self, environment: dict[str, str], timeout: float = REQUEST_SECONDS) -> None:
        """`timeout` is that of each request, in seconds."""
        self._environment = environment
        self._timeout = timeout
        self._idle_offsets: dict[str, int] | None = None
        """End offsets at the last poll, if it showed no work."""

    def look(self, ignore: tuple[str, ...] = ()) -> list[str]:
        """Return what is still to do, a line each; empty when the instance is idle.

        Lines that contain a text of `ignore` do not count. A service that does not answer is work.
        """
        unfinished: list[str] = []
        offsets: dict[str, int] = {}
        for service in SERVICES:
            name = service.removesuffix("_URL").lower()
            try:
                status = call_api(
                    self._environment,
                    "GET",
                    f"/admin/v1/{name}/status",
                    service=service,
                    workspace=DEFAULT_WORKSPACE,
                    timeout=self._timeout,
                )
            except Unavailable:
                unfinished.append(f"{name} does not answer")
                continue
            unfinished += status["unfinished"]
            offsets |= status["end_offsets"]
        unfinished = [line for line in unfinished if not any(text in line for text in ignore)]
        is_confirmed = offsets == self._idle_offsets
        self._idle_offsets = None if unfinished else offsets
        return unfinished if unfinished or is_confirmed else ["a second look"]


def wait_until_idle(
    environment: dict[str, str], seconds: float, report: Callable[[str], None]
) -> bool:
    """Return True once the instance is idle, False when `seconds` are over.

    `report` gets a line every 3 s.
    """
    detector = IdleDetector(environment, max(1.0, min(REQUEST_SECONDS, seconds)))
    deadline = time.monotonic() + seconds
    reported_at = 0.0
    while unfinished := detector.look():
        if time.monotonic() > deadline:
            return False
        if time.monotonic() - reported_at > REPORT_SECONDS:
            report(f"waiting: {', '.join(unfinished)}")
            reported_at = time.monotonic()
        time.sleep(POLL_SECONDS)
    return True
