"""The services' doors as the command line uses them."""

import getpass
import json
from collections.abc import Iterator
from typing import Any

from cli.terminal import current_workspace
from libs.common.errors import Conflict, NotFound, PerigeeError, Unavailable

_ERRORS: dict[int, type[PerigeeError]] = {404: NotFound, 409: Conflict, 503: Unavailable}


def current_author() -> str:
    """Return who gives the command, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


def call_api(
    environment: dict[str, str],
    method: str,
    path: str,
    *,
    door: str = "SCORING_URL",
    **options: Any,
) -> Any:
    """Call a service with the admin key and return its JSON. Raises PerigeeError with what the door answered."""
    answer = _ask(environment, method, path, door, options)
    return answer.json() if answer.content else None


def get_text(environment: dict[str, str], path: str, *, door: str, **options: Any) -> str:
    """Return what a service answers as text. Raises PerigeeError with what the door answered."""
    return str(_ask(environment, "GET", path, door, options).text)


def _ask(
    environment: dict[str, str], method: str, path: str, door: str, options: dict[str, Any]
) -> Any:
    import httpx2

    url, headers = _address(environment, door)
    try:
        answer = httpx2.request(
            method, f"{url}{path}", headers=headers, timeout=60, trust_env=False, **options
        )
    except httpx2.HTTPError as error:
        raise Unavailable(
            f"{door} does not answer at {url} ({type(error).__name__}): is it up?"
        ) from None
    if answer.is_success:
        return answer
    raise _refusal(answer)


def stream_events(environment: dict[str, str], path: str, *, door: str) -> Iterator[Any]:
    """Yield the JSON of each server-sent event. Raises PerigeeError with what the door answered, or when it goes away."""
    import httpx2

    url, headers = _address(environment, door)
    try:
        with httpx2.stream(
            "GET", f"{url}{path}", headers=headers, timeout=None, trust_env=False
        ) as answer:
            if not answer.is_success:
                answer.read()
                raise _refusal(answer)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))
    except httpx2.HTTPError as error:
        raise Unavailable(
            f"{door} does not answer at {url} ({type(error).__name__}): is it up?"
        ) from None


def _address(environment: dict[str, str], door: str) -> tuple[str, dict[str, str]]:
    url = environment.get(door)
    if not url:
        raise PerigeeError(f"{door} is not set: 'perigee env' prints it for a running instance")
    key = environment.get("PERIGEE_ADMIN_KEY", "")
    return url, {"Authorization": f"Bearer {key}", "Perigee-Workspace": current_workspace()}


def _refusal(answer: Any) -> PerigeeError:
    kind = _ERRORS.get(answer.status_code, PerigeeError)
    try:
        message = answer.json().get("detail") or answer.text
    except ValueError:
        message = answer.text
    return kind(str(message))
