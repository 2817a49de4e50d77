"""Client of the services' APIs with the operator's key; errors are PerigeeErrors."""

import getpass
import json
from collections.abc import Iterator
from typing import Any, Literal

from cli.terminal import current_workspace
from libs.common.errors import Conflict, NotFound, PerigeeError, Unavailable
from libs.common.ids import WorkspaceId

ServiceVariable = Literal["INGEST_URL", "SCORING_URL", "ORCHESTRATOR_URL"]
"""Environment variable with the address of a service."""
TIMEOUT_SECONDS = 60.0
_ERRORS: dict[int, type[PerigeeError]] = {404: NotFound, 409: Conflict, 503: Unavailable}


def current_author() -> str:
    """Return the name of the user that gives the command, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


def call_api(
    environment: dict[str, str],
    method: str,
    path: str,
    *,
    service: ServiceVariable = "SCORING_URL",
    workspace: WorkspaceId | None = None,
    timeout: float | None = TIMEOUT_SECONDS,
    **options: Any,
) -> Any:
    """Call a service with the admin key; return its JSON, None for an empty answer.

    `workspace` is the current one by default; `timeout` is in seconds, None waits for ever. Raises
    PerigeeError with the detail of the answer: NotFound, Conflict, Unavailable for 404, 409, 503
    and for a service that does not answer.
    """
    answer = _request(environment, method, path, service, workspace, timeout, options)
    return answer.json() if answer.content else None


def get_text(
    environment: dict[str, str], path: str, *, service: ServiceVariable, **options: Any
) -> str:
    """Return a service's answer as text. Raises PerigeeError as `call_api` does."""
    answer = _request(environment, "GET", path, service, None, TIMEOUT_SECONDS, options)
    return str(answer.text)


def _request(
    environment: dict[str, str],
    method: str,
    path: str,
    service: ServiceVariable,
    workspace: WorkspaceId | None,
    timeout: float | None,
    options: dict[str, Any],
) -> Any:
    import httpx2

    url, headers = _address(environment, service, workspace)
    try:
        answer = httpx2.request(
            method, f"{url}{path}", headers=headers, timeout=timeout, trust_env=False, **options
        )
    except httpx2.HTTPError as error:
        raise _no_answer(service, url, error) from None
    if answer.is_success:
        return answer
    raise _error_from(answer)


def stream_events(
    environment: dict[str, str], path: str, *, service: ServiceVariable
) -> Iterator[Any]:
    """Yield the JSON of each server-sent event.

    Raises PerigeeError as `call_api` does, also when the stream breaks.
    """
    import httpx2

    url, headers = _address(environment, service, None)
    try:
        with httpx2.stream(
            "GET", f"{url}{path}", headers=headers, timeout=None, trust_env=False
        ) as answer:
            if not answer.is_success:
                answer.read()
                raise _error_from(answer)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))
    except httpx2.HTTPError as error:
        raise _no_answer(service, url, error) from None


def _address(
    environment: dict[str, str], service: ServiceVariable, workspace: WorkspaceId | None
) -> tuple[str, dict[str, str]]:
    url = environment.get(service)
    if not url:
        raise PerigeeError(f"{service} is not set: 'perigee env' prints it for a running instance")
    key = environment.get("PERIGEE_ADMIN_KEY", "")
    return url, {
        "Authorization": f"Bearer {key}",
        "Perigee-Workspace": workspace or current_workspace(),
    }


def _no_answer(service: ServiceVariable, url: str, error: Exception) -> Unavailable:
    return Unavailable(f"{service} does not answer at {url} ({type(error).__name__}): is it up?")


def _error_from(answer: Any) -> PerigeeError:
    kind = _ERRORS.get(answer.status_code, PerigeeError)
    try:
        message = answer.json().get("detail") or answer.text
    except ValueError:
        message = answer.text
    return kind(str(message))
