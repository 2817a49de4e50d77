"""Scoring's doors as the command line uses them."""

import getpass
from typing import Any

from libs.common.errors import Conflict, NotFound, PerigeeError, Unavailable

_ERRORS: dict[int, type[PerigeeError]] = {404: NotFound, 409: Conflict, 503: Unavailable}


def author() -> str:
    """Return who gives the command, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


def call(environment: dict[str, str], method: str, path: str, **options: Any) -> Any:
    """Call scoring with the admin key and return its JSON. Raises PerigeeError with what the door answered."""
    import httpx2

    url = environment.get("SCORING_URL")
    if not url:
        raise PerigeeError("SCORING_URL is not set: 'perigee env' prints it for a running instance")
    headers = {"Authorization": f"Bearer {environment.get('PERIGEE_ADMIN_KEY', '')}"}
    try:
        answer = httpx2.request(method, f"{url}{path}", headers=headers, timeout=60, trust_env=False, **options)
    except httpx2.HTTPError as error:
        raise Unavailable(f"scoring does not answer at {url} ({type(error).__name__}): is it up?") from None
    if answer.is_success:
        return answer.json()
    kind = _ERRORS.get(answer.status_code, PerigeeError)
    try:
        said = answer.json()
        message = said.get("detail") or answer.text
    except ValueError:
        message = answer.text
    raise kind(message if isinstance(message, str) else str(message))
